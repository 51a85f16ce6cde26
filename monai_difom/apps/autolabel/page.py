"""Pages about adapted teachers and about what they say of images: no script, no network, every picture inside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...utils import atomic_path
from ..report.html import NONE, document, number, section, table, text
from .adapted import AdaptedTeacher


def adaptation_page(teacher: AdaptedTeacher) -> Path:
    """Write ``teacher.html``: validation and test scores of every member, and of all together.

    Returns:
        The file.
    """
    names = list(teacher.test_sets)
    folds = any(member.fold is not None for member in teacher.members)
    head = ["", "images", "best epoch", "validation", *(["held out"] if folds else []), *map(text, names)]
    rows = []
    for member in teacher.members:
        held_out = [number(member.held_out.get("dice"))] if folds else []
        rows.append(
            [
                text(member.name),
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
    lead = f'<p class="note">{text(teacher.source)}, {size} pixels, {len(teacher.members)} member(s)</p>'
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
