"""What an adaptation leaves: networks that know the task, what each of them was trained on, and how well it does."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ... import __version__
from ...networks.definition import build_network
from ...networks.lora import load_adapters, merge_lora
from ...networks.student import load_network_state
from ...networks.weights import read_weights
from ...utils import write_json
from ...utils.documents import read_large_json
from ...utils.weight_files import MODELS, STUDENT
from ..deployed.facts import Deployment

TEACHER, FORMAT = "teacher.json", 1
MODEL, ADAPTERS = f"{MODELS}/{STUDENT}", "adapters.safetensors"
_FIRST_WEIGHTS = ("pretrained", "weights")


@dataclass(frozen=True)
class Member:
    """One adapted network.

    Args:
        name: ``seed0``, or ``seed0_fold1``.
        folder: its folder, relative to that of the teacher.
        weights: its file of weights or adapters, relative to its folder.
        digest: SHA-256 of that file.
        seed: seed of its training.
        fold: the fold that it was not trained on, from 0; None where it saw all labelled images.
        trained_on: digest of every image that it was trained on, see `monai_difom.data.image_keys`.
        best: validation score of its best epoch, and the epoch.
        held_out: ``dice`` on the labelled images of its fold, at the size of its input, and their number ``n``.
        test_sets: name -> mean scores.
    """

    name: str
    folder: str
    weights: str
    digest: str
    seed: int
    fold: int | None
    trained_on: tuple[str, ...]
    best: Mapping[str, Any] = field(default_factory=dict)
    held_out: Mapping[str, Any] = field(default_factory=dict)
    test_sets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class AdaptedTeacher:
    """The members of one adaptation and what is around each of them.

    Args:
        folder: folder of ``teacher.json``.
        definition: how the network is built, plain data; its first weights are named only where adapters need them.
        facts: from pixels to its input, from its logits to masks.
        members: the networks.
        test_sets: name -> mean scores of all members together, over the dihedral views.
        licence: licence of the weights.
        source: where they came from.
    """

    folder: Path
    definition: Mapping[str, Any]
    facts: Deployment
    members: tuple[Member, ...]
    test_sets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    licence: str = ""
    source: str = ""

    def content(self) -> dict[str, Any]:
        """Return what ``teacher.json`` holds."""
        return {
            "kind": "adapted_teacher",
            "format": FORMAT,
            "version": __version__,
            "licence": self.licence,
            "source": self.source,
            "test_sets": self.test_sets,
            "members": [asdict(member) for member in self.members],
            "network": self.definition,
            "deployment": self.facts.as_dict(),
        }

    def write(self) -> None:
        """Write ``teacher.json``."""
        write_json(self.folder / TEACHER, self.content())

    def weights_file(self, member: Member) -> Path:
        """Return the file of a member's weights or adapters."""
        return self.folder / member.folder / member.weights

    def signature(self, member: Member) -> str:
        """Return what changes whenever the member would say something else: of weights, network, and input."""
        definition = {key: value for key, value in self.definition.items() if key not in _FIRST_WEIGHTS}
        text = json.dumps([member.digest, definition, self.facts.as_dict()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def network(self, member: Member) -> nn.Module:
        """Return a member on the CPU, in eval mode, its adapters merged.

        Raises:
            FileNotFoundError: its weights are not there.
            ValueError: they are of another network, those that its adapters were trained on are not there or have changed, or
                the network is of a package that is not trusted.
        """
        file = self.weights_file(member)
        # adapters were trained on the weights that the definition names
        network = build_network(
            self.definition, f"{self.folder / TEACHER}: network", first_weights=file.suffix == ".safetensors"
        )
        if file.suffix == ".safetensors":
            return merge_lora(load_adapters(network, file)).eval()
        state = read_weights(file, "It is what an adaptation leaves.")
        advice = f"{self.folder / TEACHER} names another network."
        load_network_state(network, state, file, advice)
        return network.eval()


def read_adapted(folder: str | os.PathLike) -> AdaptedTeacher:
    """Read what an adaptation has left.

    Args:
        folder: folder with ``teacher.json``.

    Raises:
        FileNotFoundError: there is none: the adaptation was not finished, or this is another folder.
        ValueError: the file is damaged or of another version.
    """
    file = Path(folder) / TEACHER
    if not file.is_file():
        raise FileNotFoundError(
            f"no adapted teacher at {folder} (no {TEACHER}): run the bundle's id `adapt` to its end."
        )
    try:
        found = read_large_json(file)
        kind, form = found["kind"], found["format"]
        if (kind, form) != ("adapted_teacher", FORMAT):
            raise ValueError(f"it is of kind {kind!r}, format {form}; this version reads format {FORMAT}")
        members = tuple(
            Member(**{**member, "trained_on": tuple(member["trained_on"])}) for member in found["members"]
        )
        return AdaptedTeacher(
            Path(folder),
            found["network"],
            Deployment.from_dict(found["deployment"]),
            members,
            found["test_sets"],
            found["licence"],
            found["source"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is no adapted teacher: {error}. Run the id `adapt` again.") from error


def adapted_weights(folder: str | os.PathLike, adapters: bool = False) -> str:
    """Return the file of the member with the best validation score.

    Args:
        folder: folder of the adaptation. Where it is not finished, the file is named that one member alone will leave.
        adapters: whether adapters are trained.
    """
    if not (Path(folder) / TEACHER).is_file():
        return str(Path(folder) / (ADAPTERS if adapters else MODEL))
    teacher = read_adapted(folder)
    best = max(teacher.members, key=lambda member: member.best.get("best") or 0.0)
    return str(teacher.weights_file(best))


def plain_definition(definition: Mapping[str, Any], keep_weights: bool) -> dict[str, Any]:
    """Return a definition that builds the network anywhere: its first weights left out, or their paths made absolute.

    Args:
        definition: ``_target_`` and arguments, references filled in.
        keep_weights: adapters are trained, which say nothing without the weights below them.
    """
    found: dict[str, Any] = {}
    for key, value in definition.items():
        if isinstance(value, Mapping):
            found[key] = plain_definition(value, keep_weights)
        elif key == "encoder_weights" and not keep_weights:
            found[key] = None
        elif key in _FIRST_WEIGHTS:
            if keep_weights:
                local = isinstance(value, (str, os.PathLike)) and Path(value).expanduser().exists()
                found[key] = str(Path(value).expanduser().resolve()) if local else value
        else:
            found[key] = value
    return found
