"""What one item of a data set holds: the image's head, the mask's values, and what is wrong with either."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ...losses import MISSING
from ...transforms.label_file import Label, mask_of, open_label
from ...transforms.picture_file import PictureFacts, open_picture, picture_facts, read_picture_file
from ...transforms.volume_file import open_volume, read_volume_labels
from ..items import is_volume
from ..structures import LoadStructuresd
from ..volume_grids import volume_problems


@dataclass(frozen=True)
class ItemFacts:
    """What `facts_of` finds.

    Args:
        image: path of the image.
        problems: what is not understood; one sentence each, with the file.
        kind: of the image's pixels: ``"RGB 8 bits"``.
        orientation: EXIF orientation of a picture, axes of a volume.
        remarks: what is unusual and understood.
        volume: it is a NIfTI volume.
        share: foreground's share of the mask, of several structures their union; None without a mask.
        corners: how many of the mask's four corners are foreground.
        levels: values of the mask: ``"0/255"``, ``"palette"``, ``"grey levels"``.
        annotated: names of the structures that were annotated.
    """

    image: str
    problems: tuple[str, ...] = ()
    kind: str = ""
    orientation: str = ""
    remarks: tuple[str, ...] = ()
    volume: bool = False
    share: float | None = None
    corners: int = 0
    levels: str = ""
    annotated: tuple[str, ...] = ()


def facts_of(
    item: Mapping[str, Any],
    mask_threshold: float | None = None,
    structures: Sequence[str] | None = None,
    classes: int | None = None,
    deep: bool = False,
) -> ItemFacts:
    """Look at one item; nothing is raised, what is wrong stands in ``problems``.

    Args: those of `survey`.
    """
    if not isinstance(item["image"], str | os.PathLike):
        return ItemFacts(
            str(item["image"]), kind="several files"
        )  # channels of one image; read when they are loaded
    if is_volume(os.fspath(item["image"])):
        return _volume(item, deep)
    problems: list[str] = []
    facts = _picture(os.fspath(item["image"]), deep, problems)
    label: dict[str, Any] = {}
    if item.get("label") not in (None, {}):
        try:
            label = (
                _structures(item, facts, structures, mask_threshold)
                if structures is not None
                else _label(item, facts, mask_threshold, classes)
            )
        except ValueError as error:
            problems.append(str(error))
    remarks = []
    if facts is not None and facts.pages > 1:
        remarks.append("previews behind the first page")
    if facts is not None and facts.transparent:
        remarks.append("transparency, which is dropped")
    return ItemFacts(
        str(item["image"]),
        tuple(problems),
        f"{facts.mode} {facts.bits} bits" if facts is not None else "unknown",
        str(facts.orientation) if facts is not None else "",
        tuple(remarks),
        **label,
    )


def _picture(path: str, deep: bool, problems: list[str]) -> PictureFacts | None:
    """The facts of an image; it is unpacked where its head does not say everything: 16 bits may be fewer."""
    try:
        facts = picture_facts(path)
        if deep or facts.bits == 16 or facts.mode in ("I", "F"):
            read_picture_file(path)
        if facts.mode in ("LA", "RGBA", "PA", "P"):
            facts = open_picture(path).facts
    except ValueError as error:
        problems.append(str(error))
        return None
    return facts


def _label(
    item: Mapping[str, Any],
    facts: PictureFacts | None,
    threshold: float | None,
    classes: int | None,
) -> dict[str, Any]:
    path = item["label"]
    if isinstance(path, Mapping):
        raise ValueError(
            f"{item['image']}: has masks of structures ({', '.join(path)}), but one mask per image is wanted. Several structures "
            "are trained by bundles/agglomerated_encoder."
        )
    label = open_label(path)
    mask = _classes(label, classes) if classes else mask_of(label, threshold)
    _refuse_other_size(str(path), str(item["image"]), mask.shape, facts)
    return {**_mask_facts(mask), "levels": _levels(label)}


def _classes(label: Label, classes: int) -> np.ndarray:
    if label.values.max() > classes:
        raise ValueError(
            f"{label.name}: holds class {label.values.max()}, but {classes} classes are expected."
        )
    return label.values > 0


def _levels(label: Label) -> str:
    """The values of a mask, as people name them."""
    if not label.graded:
        return label.kind
    values = np.unique(label.levels)
    if len(values) > 2:
        return f"grey levels of {label.kind}" if label.kind != "shape in the transparency" else label.kind
    if label.kind in ("1 bit", "shape in the transparency"):
        return label.kind
    # an empty mask says nothing of the other value
    return f"0/{values[-1]:g}" if values[-1] else "0"


def _structures(
    item: Mapping[str, Any], facts: PictureFacts | None, structures: Sequence[str], threshold: float | None
) -> dict[str, Any]:
    if facts is None:
        return {}
    data = {**item, "image": torch.empty(1, *facts.size)}
    masks = np.asarray(LoadStructuresd(structures, mask_threshold=threshold)(data)["label"])  # type: ignore[arg-type]
    known = [not (channel == MISSING).any() for channel in masks]
    annotated = tuple(name for name, there in zip(structures, known, strict=True) if there)
    if not annotated:
        return {}
    return {**_mask_facts((masks == 1).any(0)), "levels": "structures", "annotated": annotated}


def _mask_facts(mask: np.ndarray) -> dict[str, Any]:
    corners = [mask[row, column] for row in (0, -1) for column in (0, -1)]
    return {"share": float(mask.mean()), "corners": int(sum(map(bool, corners)))}


def _refuse_other_size(mask: str, image: str, size: tuple[int, ...], facts: PictureFacts | None) -> None:
    if facts is None or size == facts.size:
        return
    said = f"{mask}: the mask is {size[0]}x{size[1]} but its image {image} is {facts.size[0]}x{facts.size[1]} (height x width)"
    if facts.orientation >= 5 and size == facts.size[::-1]:
        said += (
            f": the image is turned upright by its EXIF orientation {facts.orientation}, and its mask was drawn by a program "
            "that passes it over. Turn the mask too, or remove the orientation from the image"
        )
    raise ValueError(said)


def _volume(item: Mapping[str, Any], deep: bool) -> ItemFacts:
    from nibabel.orientations import aff2axcodes

    image, label = str(item["image"]), item.get("label")
    problems = volume_problems(item) if deep else []
    found: dict[str, Any] = {}
    try:
        volume = open_volume(image)
        found["kind"] = f"NIfTI {volume.get_data_dtype()}"
        found["orientation"] = "".join(aff2axcodes(volume.affine))
        if label is not None and not problems:
            values = read_volume_labels(os.fspath(label))
            found["share"] = float((values > 0).mean())
            found["levels"] = "whole numbers" if values.max() > 1 else "0/1"
    except ValueError as error:
        problems = problems or [str(error)]
    return ItemFacts(image, tuple(problems), volume=True, **found)
