"""Scores as a CSV file, one row per image, and as a table for a person."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ...metrics import COLUMNS, MARKS, SCORES
from ...metrics.scores import SPACING
from ...utils import atomic_path

# of all scores those that a bundle's page shows
_SHOWN = ("dice", "iou", "hd95", "s_measure", "mae")


def write_scores(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one row per image, of several structures one per image and structure, as CSV.

    Columns: ``structure`` and ``group`` where there are any, then those of `monai_difom.metrics.COLUMNS`: ``image``, the scores,
    the size and the marks.

    ``e_measure_max`` of a row is the maximum of that image's own curve; the maximum of a set, in JSON files, is taken of
    the mean curve and therefore below the mean of this column. Volumes have no scores of grey maps. Where the size of a pixel
    is known, it follows as ``spacing_1``, ``spacing_2``, ... (millimetres, by axis), and distances are in millimetres.

    Args:
        path: file to write.
        rows: of `evaluate_set`.
    """
    columns = [name for name in ("structure", "group") if any(name in row for row in rows)]
    columns += [name for name in COLUMNS if all(name in row for row in rows)]
    if all("spacing" in row for row in rows):
        rows = [
            {**row, **{f"{SPACING}{i + 1}": step for i, step in enumerate(row["spacing"])}} for row in rows
        ]
        columns += [name for name in rows[0] if name.startswith(SPACING)]
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(row.get(key, "")) for key in columns])


def _cell(value: Any) -> Any:
    """Marks and sizes as whole numbers, scores at full precision."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def score_table(sets: Mapping[str, Mapping[str, float]], unit: str = "px", tolerance: float = 2.0) -> str:
    """Return scores as lines of text, one score per line and one column per set.

    Args:
        sets: title of the column -> result of `monai_difom.metrics.mean_scores`.
        unit: of HD95 and the tolerance.
        tolerance: of NSD, for its title.
    """
    notes = {"hd95": f" ({unit})", "nsd": f" ({tolerance:g} {unit})"}
    width = max(12, *(len(name) for name in sets)) + 2
    lines = [" " * 16 + "".join(f"{name:>{width}}" for name in sets)]
    lines.append(f"{'images':16}" + "".join(f"{means['n']:>{width}}" for means in sets.values()))
    for key, score in SCORES.items():
        shown = (score.show(means[key], more=1) for means in sets.values())
        lines.append(f"{score.short + notes.get(key, ''):16}" + "".join(f"{text:>{width}}" for text in shown))
    for mark in MARKS.values():
        lines.append(f"{mark.title:16}" + "".join(f"{means[mark.total]:>{width}}" for means in sets.values()))
    return "\n".join(lines)


def scores_section(sets: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the section "Scores" of a bundle's page, in Markdown: one row per set and, of several structures, one each below.

    Args:
        sets: name of the set -> what `evaluate_sets` returns; a score that any set lacks is left out.
    """
    rows: dict[str, Mapping[str, Any]] = {}
    for name, means in sets.items():
        unit = {"unit": means.get("unit", "px")}
        rows[name] = {**means, **unit}
        rows.update({f"{name}, {part}": {**own, **unit} for part, own in means.get("structures", {}).items()})
    scores = [SCORES[name] for name in _SHOWN if all(name in means for means in rows.values())]
    units = {means["unit"] for means in rows.values()}
    heads = [score.heading(" or ".join(sorted(units))) for score in scores]
    lines = ["| " + " | ".join(["test set", "images", *heads]) + " |", "|---" * (len(scores) + 2) + "|"]
    for name, means in rows.items():
        cells = [
            score.show(means[score.name])
            + (f" {means['unit']}" if score.is_length and len(units) > 1 else "")
            for score in scores
        ]
        lines.append("| " + " | ".join([name, str(means["n"]), *cells]) + " |")
    return "\n".join(["Scores", "", "Per image, at the size of the mask, after training.", "", *lines])
