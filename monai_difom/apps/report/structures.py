"""Scores of every structure of a student that segments several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...metrics import bootstrap_mean, score_of
from ..runs.run import Table
from .columns import Column, test_set_names
from .html import NONE, Part, join, number, piece, section, table, with_interval

SHOWN = ("dice", "hd95")


def by_structure(columns: Sequence[Column]) -> Part | None:
    """Dice and HD95 of each structure, and the means in which every structure weighs the same; empty without several."""
    parts = []
    for name in test_set_names(columns):
        tables = [column.tables.get(name) for column in columns]
        named = dict.fromkeys(
            s for scored in tables if scored is not None for s in sorted(set(scored.structures))
        )
        for score in SHOWN if named else ():
            rows = []
            for structure in named:
                own = [s.of_structure(structure) if s is not None and s.structures else None for s in tables]
                count = max(len(scored.images) for scored in own if scored is not None)
                rows.append([structure, str(count), *(_cell(scored, score) for scored in own)])
            rows.append(["mean of structures", NONE, *(_mean(scored, score) for scored in tables)])
            unit = next((scored.unit for scored in tables if scored is not None), "px")
            head = ["structure", "images", *(column.head for column in columns)]
            parts.append(
                join(piece("heading", f"{name}: {score_of(score).heading(unit)}"), table(head, rows))
            )
    note = (
        "Only images that were annotated for a structure count for it. The results above are means over images and structures "
        "together: a structure with more images weighs more there."
    )
    return section("By structure", *parts, note=note)


def _cell(scored: Table | None, score: str) -> str:
    if scored is None or not scored.images or score not in scored.columns:
        return NONE
    return with_interval(bootstrap_mean(scored.columns[score], scored.groups), score_of(score))


def _mean(scored: Table | None, score: str) -> str:
    if scored is None or not scored.structures or score not in scored.columns:
        return NONE
    own = [scored.of_structure(name).columns[score].mean() for name in sorted(set(scored.structures))]
    return number(float(np.mean(own)), score=score_of(score))
