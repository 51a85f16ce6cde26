"""From the name of a teacher to its part of a configuration."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...utils import unknown_name
from ...zoo import ZOO, ZooEntry, known_weights, locate
from ..autolabel.adapted import TEACHER
from ..bundle.shipped import overlay_file, overlays
from ..deployed.facts import METADATA

_CALL = re.compile(r'(\w+)(?:\("([^"]+)"\))?')


LABELLERS = "label_teachers"  # the option of a bundle for networks that are trained already


@dataclass(frozen=True)
class Taught:
    """The teachers of a training.

    Args:
        overlays: names of overlays.
        teachers: id -> definition, where teachers of the zoo are named.
        options: id -> value.
    """

    overlays: tuple[str, ...] = ()
    teachers: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def find_teachers(names: Sequence[str]) -> Taught:
    """Return what teachers, named in any of four ways, are in a configuration.

    Args:
        names: overlays of ``configs/teachers``; names of the zoo; weight files that are known by their digest; or folders of
            finished runs or bundles, whose networks label the images without masks.

    Raises:
        ValueError: a name that nothing has, or ways that cannot be joined.
        FileNotFoundError: a weight file that does not exist.
    """
    chosen: tuple[str, ...] = ()
    entries: dict[str, Any] = {}
    options: dict[str, Any] = {}
    known = {entry.name: entry for entry in ZOO}
    # a folder that happens to have the name of an overlay is not meant
    named = {*known, *overlays("teachers")}
    trained = [name for name in names if name not in named and Path(name).expanduser().is_dir()]
    if trained and len(trained) < len(names):
        raise ValueError(
            f"{', '.join(trained)} teaches by the masks that it gives, and {', '.join(n for n in names if n not in trained)} by "
            "feature maps, or after it was adapted. Name teachers of one kind."
        )
    for folder in map(Path, trained):
        folder = folder.expanduser()
        if not any((folder / name).is_file() for name in (TEACHER, METADATA, f"bundle/{METADATA}")):
            raise ValueError(
                f"{folder} is a folder, and neither a finished run, nor a bundle, nor the adapted teacher of a run (RUN/adapt). "
                "Soft masks that are there already are given as --recipe soft_masks --set soft_masks=DIR."
            )
    if trained:
        return Taught(options={LABELLERS: [str(Path(name).expanduser().resolve()) for name in trained]})
    for name in names:
        if name in known:
            entries[name.replace(".", "_")] = zoo_definition(known[name])
        elif Path(name).is_file() and Path(name).suffix not in (".yaml", ".yml"):
            weights = known_weights(name)
            if weights is None:
                files = ", ".join(sorted(overlays("teachers")))
                raise ValueError(
                    f"{name} is a weight file that is not known by its content, so the input that it was trained with is not "
                    f"known either. Name an overlay with its contract (one of {files}, or a file of your own, see "
                    f"docs/own_teacher.md) and give the file as --set teacher_weights={name}."
                )
            chosen = (*chosen, f"teachers/{weights.overlay}")
            options["teacher_weights"] = str(Path(name).resolve())
        elif name in overlays("teachers") or Path(name).is_file():
            chosen = (*chosen, str(overlay_file(name, "teachers")))
        else:
            raise ValueError(unknown_name("teacher", name, [*overlays("teachers"), *known]))
    if len(chosen) > 1 or (chosen and entries):
        raise ValueError(
            f"{', '.join(names)}: overlays of teachers replace one another. Name several teachers of the zoo, or one overlay."
        )
    return Taught(chosen, entries, options)


def zoo_definition(entry: ZooEntry) -> dict[str, Any]:
    """Return how a teacher of the zoo is built: from what lies on this machine, or by its hub name.

    Raises:
        FileNotFoundError: a native checkpoint that is not on this machine; says where to get it.
    """
    found = locate(entry)
    if found is None and not entry.on_hub:
        raise FileNotFoundError(
            f"the weights of {entry.name} ({entry.source}) are not on this machine. Get them from {entry.where}, put them into "
            "~/.cache/torch/hub/checkpoints, and start again."
        )
    call = _CALL.fullmatch(entry.family)
    assert call is not None, entry.family
    function, argument = call.groups()
    source = str(found) if found is not None else entry.source
    definition: dict[str, Any] = {"_target_": f"monai_difom.networks.teachers.{function}"}
    if function == "timm_teacher":
        twice = "$2 * @image_size if isinstance(@image_size, int) else [2 * n for n in @image_size]"
        return {**definition, "name": argument, "out_indices": [2, 3, 4], "input_size": twice}
    if function == "SegmentAnythingTeacher":
        definition["model_type"] = argument
    if function in ("SegmentAnythingTeacher", "medsam_teacher", "MedCLIPTeacher"):
        return {**definition, "weights": source, "input_size": entry.size}
    return {**definition, "model": source, "input_size": entry.size}
