"""Pages about adapted teachers and about what they say of images: no network, every picture inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from markupsafe import Markup
from PIL import Image

from ...data import SoftMasks
from ...data.items import is_volume
from ...transforms.volume_file import hanging_of, open_volume
from ...utils import atomic_path
from ..predict.contours import COLORS, draw_contours
from ..predict.sources import read_picture
from ..report.html import NONE, document, grid, join, number, piece, section, table
from .adapted import AdaptedTeacher
from .volumes import axial_slice

_TILE = 360  # pixels of the longer side of a picture on the page


def adaptation_page(teacher: AdaptedTeacher) -> Path:
    """Write ``teacher.html``: validation and test scores of every member, and of all together.

    Returns:
        The file.
    """
    names = list(teacher.test_sets)
    folds = any(member.fold is not None for member in teacher.members)
    head = ["", "images", "best epoch", "validation", *(["held out"] if folds else []), *names]
    rows = []
    for member in teacher.members:
        held_out = [number(member.held_out.get("dice"))] if folds else []
        rows.append(
            [
                member.name,
                str(len(member.trained_on)),
                str(member.best.get("best_epoch", NONE)),
                number(member.best.get("best")),
                *held_out,
                *_dice(member.test_sets, names),
            ]
        )
    blank = [NONE] * (len(head) - 1 - len(names))
    rows.append(["all together, 8 views", *blank, *_dice(teacher.test_sets, names)])
    note = (
        "Mean Dice. Validation and held-out images at the size of the teacher's input, test images at their own. Held out: the "
        "labelled images that a member was not trained on, which it labels."
    )
    size = " x ".join(map(str, teacher.facts.size))
    lead = piece("paragraph", f"{teacher.source}, {size} pixels, {len(teacher.members)} member(s)", "note")
    page = document(
        "Adapted teacher", "Adapted teacher", lead, section("Scores", table(head, rows), note=note)
    )
    return write_page(teacher.folder / "teacher.html", page)


def _dice(scores: Mapping[str, Mapping[str, Any]], names: list[str]) -> list[str]:
    return [number(scores.get(name, {}).get("dice")) for name in names]


def write_page(file: Path, page: str) -> Path:
    """Write a page beside its place, then rename, and return the file."""
    with atomic_path(file) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return file


def label_page(masks: SoftMasks, rows: Sequence[Mapping[str, Any]], shown: int = 12) -> Path:
    """Write ``autolabel.html``: how sure the teachers are, and their contours on the least and the most certain images.

    Args:
        masks: the soft masks.
        rows: of `write_ranking`, with ``image``.
        shown: images of each kind.

    Returns:
        The file.
    """
    first = [row for row in rows if not row["like"]][:shown]
    surest = sorted(rows, key=lambda row: (row["uncertainty"], -row["foreground"]))[:shown]
    colours = join(
        *(_swatch(place, name) for place, name in enumerate(masks.structures[: len(COLORS)])), between=", "
    )
    made = f"{len(rows)} images by {len(masks.teachers)} teacher(s), {len(masks.index['views'])} view(s)."
    lead = piece("paragraph", join(made, " Contours at probability .5: ", colours, "."), "note")
    note = (
        "Certainty: the Dice that the mask at .5 is expected to have if the probabilities are right. Disagreement: one less "
        "the mean Dice of all pairs of teachers, or of the views of a single one."
    )
    mean = {name: sum(row[name] for row in rows) / len(rows) for name in ("certainty", "disagreement")}
    figures = [["mean of all images", *(number(mean[name]) for name in mean)]]
    page = document(
        "Soft masks",
        "Soft masks",
        lead,
        section("Figures", table(["", *mean], figures), note=note),
        section("The least certain", _tiles(masks, first), note="Images that look alike are shown once."),
        section("The most certain", _tiles(masks, surest)),
    )
    return write_page(masks.folder / "autolabel.html", page)


def _tiles(masks: SoftMasks, rows: Sequence[Mapping[str, Any]]) -> Markup:
    return grid(*(_tile(masks, row) for row in rows), kind="tiles")


def _tile(masks: SoftMasks, row: Mapping[str, Any]) -> Markup:
    """A picture with contours and its figures."""
    picture, probability = _shown(masks, row["image"])
    share = min(1.0, _TILE / max(picture.shape[:2]))
    size = tuple(max(1, round(side * share)) for side in picture.shape[:2])
    small = np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR))
    found = F.interpolate(probability[None], size, mode="bilinear", align_corners=False)[0]
    stream = io.BytesIO()
    Image.fromarray(draw_contours(small, (found > 0.5).numpy(), 2)).save(stream, "JPEG", quality=85)
    name = Path(row["image"]).name
    caption = f"{name}: certainty {row['certainty']:.2f}, disagreement {row['disagreement']:.2f}"
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    return piece("picture", data, caption)


def _shown(masks: SoftMasks, image: str) -> tuple[np.ndarray, torch.Tensor]:
    """A picture ``(H, W, 3)`` and its soft mask ``(K, H, W)``; of a volume the axial slice with most of the structures."""
    probability = masks.read(image)
    if not is_volume(image):
        return read_picture(image), probability
    hanging = hanging_of(open_volume(image))
    slices = torch.from_numpy(np.stack([hanging.slices(part).copy() for part in probability.numpy()]))
    number = int((slices > 0.5).sum((0, 2, 3)).argmax())
    return axial_slice(image, number).repeat(3, axis=2), slices[:, number]


def _swatch(place: int, name: str) -> Markup:
    return piece("coloured", name, COLORS[place])
