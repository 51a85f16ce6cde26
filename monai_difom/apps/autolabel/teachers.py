"""What can label images: adapted teachers, finished runs, bundles, exported files, and maps of any program."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ...data import MapFolder, SoftMasks, image_keys
from ...data.soft_masks import open_folder
from ...data.soft_masks.store import INDEX
from ...transforms import apply_view, invert_view
from ...utils import file_digest
from ...utils.probabilities import checked_probabilities
from ..deployed.facts import METADATA, Deployment, read_deployment
from ..deployed.network import WEIGHTS, load_network, network_definition
from ..deployed.runners import find_bundle, named_channels, network_runner, open_runner
from ..deployed.volumes import VolumeDeployment, is_volume_bundle, read_volume_deployment
from ..export.formats import FORMATS
from .adapted import TEACHER, read_adapted

# pixels of a forward pass on a CPU: more do not stay in its caches, and take longer a pixel
CPU_PIXELS = 100_000
GPU_BATCH = 32
_ALLOWED = (
    "the adapt folder of a run, a finished run, a bundle, a .ts, .onnx or .xml file, or a folder of maps <stem>.png of any "
    "program"
)


@dataclass(frozen=True)
class MaskTeacher:
    """One voice among those that label an image.

    Args:
        name: its name in index and tables.
        signature: what changes whenever it would say something else.
        structures: names of its channels.
        facts: from pixels to its input; None for maps.
        predict: input ``(B, C, h, w)`` -> probabilities ``(B, K, h, w)``, both on the CPU; of volumes windows -> logits; None for
            maps.
        batch: images in one pass.
        maps: reader of maps that are there already; None for a network.
        trained_on: digests of the images whose masks it has learned.
        volumes: what stands around a network of volumes; None where it labels pictures.
    """

    name: str
    signature: str
    structures: tuple[str, ...]
    facts: Deployment | None = None
    predict: Callable[[torch.Tensor], torch.Tensor] | None = None
    batch: int = 1
    maps: SoftMasks | MapFolder | None = None
    trained_on: frozenset[str] = field(default_factory=frozenset)
    volumes: VolumeDeployment | None = None

    def probabilities(self, images: torch.Tensor, views: Sequence[int]) -> torch.Tensor:
        """Return what a network says of each view, turned back: ``(V, B, K, h, w)`` of prepared images ``(B, C, h, w)``."""
        assert self.predict is not None
        return torch.stack([invert_view(self.predict(apply_view(images, view)), view) for view in views])


def heard(teachers: Sequence[MaskTeacher], key: str) -> list[str]:
    """Return the names of those that label an image: they have not learned its mask, unless all have.

    Args:
        teachers: all teachers.
        key: digest of the image.
    """
    new = [teacher.name for teacher in teachers if key not in teacher.trained_on]
    return new or [teacher.name for teacher in teachers]


def open_teachers(
    given: Sequence[str | os.PathLike],
    structures: Sequence[str] | None = None,
    device: torch.device | str = "cpu",
) -> list[MaskTeacher]:
    """Open everything that is to label images.

    Args:
        given: folders and files, see `MaskTeacher`; an adapted teacher brings all its members.
        structures: names of the structures; None takes those of the first teacher.
        device: where torch networks run.

    Raises:
        FileNotFoundError: there is nothing at a path.
        ValueError: something that labels no images, or teachers of different structures.
    """
    if not given or None in given:  # null in a configuration
        raise ValueError(f"no teacher was given; allowed are {_ALLOWED}.")
    found: list[MaskTeacher] = []
    for path in given:
        found += _open(Path(path).expanduser(), structures, device)
    names = tuple(structures or found[0].structures)
    checked: dict[str, MaskTeacher] = {}
    for teacher in found:
        # of one structure the name is a matter of taste; of several the channels must mean the same
        unnamed = structures is not None or len(names) == 1
        if len(teacher.structures) != len(names) or not (unnamed or teacher.structures == names):
            raise ValueError(
                f"teacher {teacher.name} has {len(teacher.structures)} structure(s), {', '.join(teacher.structures)}; the "
                f"others, or --structures, have {len(names)}: {', '.join(names)}. Label with teachers of the same structures."
            )
        number, name = 2, teacher.name
        while name in checked:
            name, number = f"{teacher.name}-{number}", number + 1
        checked[name] = replace(teacher, name=name, structures=names)
    return list(checked.values())


def _open(path: Path, structures: Sequence[str] | None, device: torch.device | str) -> list[MaskTeacher]:
    if not path.exists():
        raise FileNotFoundError(f"there is no teacher at {path}; allowed are {_ALLOWED}.")
    if (path / TEACHER).is_file():
        return _adapted(path, device)
    if path.is_file():
        return [_exported(path)]
    if any((place / METADATA).is_file() for place in (path, path / "bundle")):
        return [_bundle(find_bundle(path), path.resolve().name, device)]
    if (path / INDEX).is_file():
        masks = SoftMasks(path)
        crc = sorted((key, entry["crc"]) for key, entry in masks.entries.items())
        return [MaskTeacher(path.resolve().name, _digest(crc), tuple(masks.structures), maps=masks)]
    maps = open_folder(path, structures)
    if not isinstance(maps, MapFolder):
        raise ValueError(f"{path} is empty, and no teacher; allowed are {_ALLOWED}.")
    try:
        files = [file for part in maps.files for file in part.values()]
    except ValueError as error:
        raise ValueError(f"{path} is no teacher ({error}) Allowed are {_ALLOWED}.") from error
    keys = image_keys([{"image": file} for file in files])
    stems = [file.relative_to(path).with_suffix("").as_posix() for file in files]
    signature = _digest(sorted(zip(stems, keys, strict=True)))
    return [MaskTeacher(path.resolve().name, signature, tuple(maps.structures), maps=maps)]


def _adapted(path: Path, device: torch.device | str) -> list[MaskTeacher]:
    teacher = read_adapted(path)
    return [
        _torch(
            f"{path.resolve().name}/{member.name}",
            teacher.signature(member),
            teacher.network(member),
            teacher.facts,
            device,
            frozenset(member.trained_on),
        )
        for member in teacher.members
    ]


def _bundle(bundle: Path, name: str, device: torch.device | str) -> MaskTeacher:
    file = bundle / WEIGHTS
    if not file.is_file():  # an exported bundle without the weights of PyTorch
        forms = sorted(FORMATS.values(), key=lambda form: form.program)
        found = [bundle / form.file for form in forms if (bundle / form.file).is_file()]
        if found:
            return replace(_exported(found[0]), name=name)
    if is_volume_bundle(bundle):
        return _of_volumes(bundle, name, device)
    network = load_network(bundle)
    facts = named_channels(network_runner(network, file, read_deployment(bundle)))
    signature = _digest([file_digest(file), network_definition(bundle), facts.as_dict()])
    return _torch(name, signature, network, facts, device)


def _of_volumes(bundle: Path, name: str, device: torch.device | str) -> MaskTeacher:
    facts = read_volume_deployment(bundle)
    place = torch.device(device)
    network = load_network(bundle).to(place).eval().requires_grad_(False)

    @torch.no_grad()  # sliding windows write into what it returns, which inference mode does not allow
    def predict(windows: torch.Tensor) -> torch.Tensor:
        return network(windows.to(place)).cpu()

    facts.check(predict)  # before any volume is read
    signature = _digest([file_digest(bundle / WEIGHTS), network_definition(bundle), facts.as_dict()])
    return MaskTeacher(name, signature, facts.structures, predict=predict, volumes=facts)


def _torch(
    name: str,
    signature: str,
    network: nn.Module,
    facts: Deployment,
    device: torch.device | str,
    trained_on: frozenset[str] = frozenset(),
) -> MaskTeacher:
    place = torch.device(device)
    network.to(place).to(memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
    batch = GPU_BATCH if place.type == "cuda" else max(1, CPU_PIXELS // (facts.size[0] * facts.size[1]))

    @torch.inference_mode()
    def predict(images: torch.Tensor) -> torch.Tensor:
        logits = network(images.to(place).contiguous(memory_format=torch.channels_last))
        return _activated(logits.float(), facts).cpu()

    return MaskTeacher(
        name, signature, facts.structures, facts, predict, min(batch, GPU_BATCH), None, trained_on
    )


def _exported(file: Path) -> MaskTeacher:
    runner = open_runner(file)
    facts = named_channels(runner)

    def predict(images: torch.Tensor) -> torch.Tensor:
        return _activated(torch.from_numpy(runner.logits(images.numpy(force=True).copy())), facts)

    signature = _digest([file_digest(runner.file), facts.as_dict()])
    return MaskTeacher(file.stem, signature, facts.structures, facts, predict)


def _activated(logits: torch.Tensor, facts: Deployment) -> torch.Tensor:
    return checked_probabilities(
        logits.sigmoid() if facts.activation == "sigmoid" else logits.softmax(1)[:, 1:]
    )


def prepared(facts: Deployment, pictures: Mapping[int, np.ndarray]) -> torch.Tensor:
    """Return a network's input ``(C, h, w)`` of the pictures ``(H, W, channels)`` by number of channels."""
    return torch.from_numpy(facts.prepare(pictures[len(facts.mean)]))[0]


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
