"""Scores as a CSV file, one row an image, and as a table for a person."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ...metrics import COLUMNS
from ...utils import atomic_path

TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "precision": "precision",
    "recall": "recall",
    "mean_dice_256": "meanDice 256",
    "mean_iou_256": "meanIoU 256",
    "mae": "MAE",
    "weighted_f": "weighted F",
    "s_measure": "S-measure",
    "e_measure_max": "max E",
    "e_measure_mean": "mean E",
    "hd95": "HD95",
    "nsd": "NSD",
}


def write_scores(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one row an image, of several structures one an image and structure, as CSV.

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
            {**row, **{f"spacing_{i + 1}": step for i, step in enumerate(row["spacing"])}} for row in rows
        ]
        columns += [name for name in rows[0] if name.startswith("spacing_")]
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(row.get(key, "")) for key in columns])


def _cell(value: Any) -> Any:
    """Marks and sizes as whole numbers, scores at full precision."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def score_table(sets: Mapping[str, Mapping[str, float]], unit: str = "px", tolerance: float = 2.0) -> str:
    """Return scores as lines of text, one score a line and one column a set.

    Args:
        sets: title of the column -> result of `monai_difom.metrics.mean_scores`.
        unit: of HD95 and the tolerance.
        tolerance: of NSD, for its title.
    """
    titles = {**TITLES, "hd95": f"HD95 ({unit})", "nsd": f"NSD ({tolerance:g} {unit})"}
    width = max(12, *(len(name) for name in sets)) + 2
    lines = [" " * 16 + "".join(f"{name:>{width}}" for name in sets)]
    lines.append(f"{'images':16}" + "".join(f"{means['n']:>{width}}" for means in sets.values()))
    for key, title in titles.items():
        digits = 2 if key == "hd95" else 4
        lines.append(f"{title:16}" + "".join(f"{means[key]:>{width}.{digits}f}" for means in sets.values()))
    for key, title in (
        ("empty_masks", "empty masks"),
        ("false_positives", "false positives"),
        ("undefined_hd95", "undefined HD95"),
    ):
        lines.append(f"{title:16}" + "".join(f"{means[key]:>{width}}" for means in sets.values()))
    return "\n".join(lines)
