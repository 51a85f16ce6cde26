"""A finished run as a bundle for deployment, in several formats whose parity with PyTorch was measured."""

from __future__ import annotations

import base64
import io
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ... import __version__
from ...data import test_sets
from ...utils import file_digest, refuse_other_content, replaced_folder, with_folder, write_json
from ...utils.configurations import resolved
from ...utils.documents import read_json
from ...utils.values import whole
from ...utils.weight_files import MODELS
from ..deployed.facts import DEPLOYMENT, INFERENCE, METADATA, Deployment, read_deployment
from ..deployed.network import WEIGHTS, is_plain_monai, load_network, network_definition
from ..deployed.optional import require
from ..deployed.runners import Runner, find_bundle, named_channels, network_runner, open_runner
from ..predict.sources import find_sources, frames, read_picture
from ..runs.examples import load_examples
from ..runs.folder import RunFolder
from ..runs.run import read_run
from .formats import FORMATS
from .model_card import save_pictures, write_card
from .parity import measure_parity, parity_failures, parity_table
from .portable import portable_text
from .training_config import TRAIN, training_config
from .writers import Work

PARITY = "parity.json"
# first part of a class's name -> distributions that it comes from, or builds on
_BUILT_ON = {
    "monai_difom": ["timm"],
    "timm": ["timm"],
    "segmentation_models_pytorch": ["segmentation-models-pytorch", "timm"],
}
_TAKEN_OVER = ("LICENSE", "configs/logging.conf", "configs/evaluate.yaml")


class ParityError(ValueError):
    """A format computes something else than the trained network."""


def export_bundle(
    bundle: str | os.PathLike,
    output: str | os.PathLike,
    formats: Sequence[str],
    images: str | os.PathLike | None = None,
    calibration: str | os.PathLike | None = None,
    limit: int = 16,
    pictures: bool = True,
    training: str | os.PathLike | None = None,
) -> dict[str, dict[str, float]]:
    """Write a trained student in the formats that are asked for, or nothing at all.

    With ``"bundle"`` among them, ``output`` is a MONAI Bundle that stands alone; otherwise it holds the models only. All is
    written beside its place and renamed when every format has passed.

    Args:
        bundle: a finished run, or a bundle with ``models/model.pt``.
        output: folder to write; an older export there is replaced.
        formats: of `FORMATS`. ``"openvino"`` is 16 bits, and 8 bits too where ``calibration`` is given.
        images: pictures that parity is measured on; None takes the run's test images.
        calibration: pictures that set the ranges of the 8-bit format, like those of the training.
        limit: how many pictures parity is measured on; a few hundred at most are taken for the calibration.
        pictures: put pictures of the run's examples into the model card. They are of the test images.
        training: overlay, such as ``configs/label/train.yaml``, under which the run's own configuration goes into the bundle as
            ``configs/train.yaml``, so that MONAI Label can train it; see `training_config`. A bundle that has one keeps it.

    Returns:
        Format -> figures of `measure_parity`.

    Raises:
        ValueError: unknown formats, a missing package, no calibration set for 8 bits, a folder that holds something else, a
            run that cannot be trained on labels.
        FileNotFoundError: no trained bundle, or no pictures.
        DiskFullError: the disk has no space for it; an older export stays.
        ParityError: a format is out of its tolerance; nothing is left.
    """
    wanted, limit = _wanted(formats, calibration), whole(limit, "limit", least=1, example=16)
    source, target = find_bundle(Path(bundle)), Path(output)
    if target.resolve() in (source.resolve(), Path(bundle).resolve()):
        raise ValueError(f"output is {target}, which is what is exported. Give another folder.")
    refuse_other_content(target, PARITY, METADATA)
    network = load_network(source)
    facts = named_channels(network_runner(network, source / WEIGHTS, read_deployment(source)))
    run = source.parent if RunFolder(source.parent).summary.is_file() else None
    trains = _training(source, run, facts, training, "bundle" in wanted)
    reference = network_runner(network, source / WEIGHTS, facts)
    shown = _parity_pictures(images, run, len(facts.mean), limit)
    calibrated = any(FORMATS[name].calibrated for name in wanted)
    known = _pictures_of(calibration, len(facts.mean), 300) if calibration and calibrated else []
    with replaced_folder(target, _bytes_of(network, wanted)) as draft:
        _write_models(network, facts, draft, wanted, known)
        if "bundle" in wanted:
            needs = _write_configs(source, draft)
            if trains is not None:
                (draft / TRAIN).write_text(trains, encoding="utf-8")
        measured = _compared(draft, wanted, reference, facts, shown)
        write_json(draft / PARITY, measured)
        if "bundle" in wanted:
            _describe(source, draft, facts, measured, needs, run, pictures)
    return measured


def _compared(
    draft: Path, wanted: Sequence[str], reference: Runner, facts: Deployment, shown: Sequence[np.ndarray]
) -> dict[str, dict[str, float]]:
    """Return the figures of every format of a draft; one out of tolerance is refused."""
    runners = {
        # the bundle's own configuration builds the network that is compared
        name: network_runner(load_network(draft), draft / FORMATS[name].file, facts)
        if name == "bundle"
        else open_runner(draft / FORMATS[name].file, trust_torchscript=True)  # written a moment ago
        for name in wanted
    }
    measured = measure_parity(reference, runners, shown)
    failures = parity_failures(measured)
    if failures:
        raise ParityError("\n".join([parity_table(measured), *failures, "Nothing was written."]))
    return measured


def _describe(
    source: Path,
    draft: Path,
    facts: Deployment,
    measured: Mapping[str, Mapping[str, float]],
    needs: Sequence[str],
    run: Path | None,
    pictures: bool,
) -> None:
    """Write a draft's metadata and its card, with pictures of the run where they are wanted."""
    listed = {
        name: {"file": file, "sha256": file_digest(draft / file), "parity": figures}
        for name, figures in measured.items()
        for file in [FORMATS[name].file]
    }
    metadata = _metadata(source, facts, listed, needs)
    write_json(with_folder(draft / METADATA), metadata, indent=4)
    shown = save_pictures(run, draft / "docs") if run is not None and pictures else []
    write_card(source, draft, metadata, run, needs, shown)


def _wanted(formats: Sequence[str], calibration: str | os.PathLike | None) -> list[str]:
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise ValueError(f"format is {', '.join(unknown) or 'empty'}; allowed are {', '.join(FORMATS)}.")
    engines = {FORMATS[name].engine for name in formats}
    wanted = [
        f
        for f in FORMATS.values()
        if f.name in formats or (f.calibrated and calibration and f.engine in engines)
    ]
    for form in wanted:
        if form.calibrated and not calibration:
            raise ValueError(
                f"{form.name} needs a calibration set: --calibration DIR with a few hundred images like those of the training. "
                "Without one, the ranges of the activations are not known."
            )
        for package in filter(None, (*form.packages, form.runtime)):  # before minutes of work
            require(package, form.what)
    return [form.name for form in wanted]


def _bytes_of(network: torch.nn.Module, wanted: Sequence[str]) -> int:
    """Bytes that the formats take on the disk, about; some libraries end the process where they do not fit."""
    weights = sum(tensor.nbytes for tensor in network.state_dict().values())
    shares = [FORMATS[name].size for name in wanted]
    if "onnx" not in wanted and any("onnx" in FORMATS[name].packages for name in wanted):
        shares.append(FORMATS["onnx"].size)  # made on the way
    return int(weights * sum(shares))


def _write_models(
    network: torch.nn.Module,
    facts: Deployment,
    draft: Path,
    wanted: Sequence[str],
    calibration: Sequence[np.ndarray],
) -> None:
    """Write the formats other than the bundle."""
    (draft / MODELS).mkdir(parents=True)
    work = Work(network, facts, draft / FORMATS["onnx"].file, calibration)
    for name in wanted:
        if FORMATS[name].writer:
            FORMATS[name].write(work, draft / FORMATS[name].file)
    if "onnx" not in wanted:  # others are made from it
        work.onnx_file.unlink(missing_ok=True)


def _write_configs(source: Path, draft: Path) -> list[str]:
    """Write weights, configurations and licence; return what of this package the inference still needs."""
    for name in _TAKEN_OVER:
        if (source / name).is_file():
            shutil.copyfile(source / name, with_folder(draft / name))
    shutil.copyfile(source / WEIGHTS, with_folder(draft / WEIGHTS))
    text, needs = portable_text((source / INFERENCE).read_text(encoding="utf-8"), network_definition(source))
    (draft / INFERENCE).write_text(text, encoding="utf-8")
    return needs


def _training(
    source: Path, run: Path | None, facts: Deployment, overlay: str | os.PathLike | None, bundle: bool
) -> str | None:
    """Return the configuration to train the exported bundle with; None for none."""
    if overlay is None:
        # that of a bundle that was exported; one that ships with this package trains from images and is left behind
        own = source / TRAIN
        text = own.read_text(encoding="utf-8") if own.is_file() else ""
        return text if "train_on_labels" in text else None
    if not bundle or run is None:
        raise ValueError(
            "a training configuration goes into the bundle of a run: export a run, with the format bundle."
        )
    if len(facts.structures) > 1:
        raise ValueError(f"labels are of one structure; this student finds {', '.join(facts.structures)}.")
    return training_config(run, overlay)


def _parity_pictures(
    images: str | os.PathLike | None, run: Path | None, channels: int, limit: int
) -> list[np.ndarray]:
    """Return pictures to compare on: those of a folder, or the run's test images, or those that its examples hold."""
    if images is not None:
        return list(_pictures_of(images, channels, limit))
    if run is not None:
        found = _test_images(run)
        if found:
            step = max(1, len(found) // limit)
            return [read_picture(path, channels) for path in found[::step][:limit]]
        kept = [e["jpeg"] for entries in load_examples(run).values() for e in entries.values() if "jpeg" in e]
        if kept:
            return [read_picture(io.BytesIO(base64.b64decode(jpeg)), channels) for jpeg in kept[:limit]]
    raise FileNotFoundError(
        "there are no pictures to compare the formats on: the run's test images are not where they were. "
        "Give some with --images DIR."
    )


def _test_images(run: Path) -> list[str]:
    config = RunFolder(run).config
    folder = resolved(config, "dataset_dir") if config.is_file() else None
    found: list[str] = []
    if folder:
        # a folder that has moved since, or one that only the run's own configuration can read
        with suppress(FileNotFoundError, ValueError):
            found = [item["image"] for items in test_sets(str(folder)).values() for item in items]
    # the tables of scores name the images that were tested
    scored = dict.fromkeys(path for table in read_run(run).tables.values() for path in table.paths)
    return found or [path for path in scored if Path(path).is_file()]


def _pictures_of(folder: str | os.PathLike, channels: int, limit: int) -> list[np.ndarray]:
    every = (frame for source in find_sources(folder) for frame in frames(source, channels))
    found = []
    for frame in islice(every, limit):
        if frame.picture is None:
            raise ValueError(frame.problem)
        found.append(frame.picture)
    return found


def _metadata(
    source: Path, facts: Deployment, formats: dict[str, Any], needs: Sequence[str]
) -> dict[str, Any]:
    """Return the metadata with the facts, the formats and the versions that they were made and tested with."""
    metadata = read_json(source / METADATA)
    network = network_definition(source)
    packages = ["pytorch-ignite", "pillow", "fire", *packages_of(network)]
    installed = {name: found for name in packages if (found := _version(name))}
    if needs or not is_plain_monai(network):
        installed["monai_difom"] = __version__
    runtimes = dict.fromkeys(FORMATS[name].runtime for name in formats if FORMATS[name].runtime)
    network_format = metadata["network_data_format"]
    softmax = facts.activation == "softmax"
    names = [*(["background"] if softmax else []), *facts.structures]
    sides = list(facts.size)
    network_format["inputs"]["image"].update(num_channels=len(facts.mean), spatial_shape=sides)
    network_format["outputs"]["pred"].update(
        num_channels=len(names),
        spatial_shape=sides,
        channel_def={str(i): name for i, name in enumerate(names)},
    )
    return {
        **metadata,
        "monai_version": _version("monai"),
        "pytorch_version": str(torch.__version__).split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": installed,
        "optional_packages_version": {package: _version(package) for package in runtimes},
        "network_data_format": network_format,
        DEPLOYMENT: facts.as_dict(),
        "formats": formats,
    }


def packages_of(definition: Any) -> list[str]:
    """Return the packages that the classes in a network's definition come from or build on, beside MONAI and this one."""
    if isinstance(definition, Mapping):
        names = [name for child in definition.values() for name in packages_of(child)]
        return [*names, *_BUILT_ON.get(str(definition.get("_target_", "")).partition(".")[0], [])]
    return (
        [name for child in definition for name in packages_of(child)] if isinstance(definition, list) else []
    )


def _version(package: str) -> str | None:
    try:
        return version(package).split("+")[0]
    except PackageNotFoundError:
        return None
