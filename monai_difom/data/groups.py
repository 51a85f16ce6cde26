"""Which images belong together (one patient, one video sequence), and so must stay on one side of a split."""

from __future__ import annotations

import csv
import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def regroup(items: Sequence[Mapping[str, Any]], group: str, dataset_dir: str | Path) -> list[dict[str, Any]]:
    r"""Return the items with groups from their file names or from a table.

    Args:
        items: items with ``image``.
        group: a regular expression that is searched in the image's path below the data set, whose first group (or all of
            it, without one) is the name: ``"(patient\d+)_"``; or ``"<file>.csv:<column>"``, a table in the data set
            folder whose first column names images, with or without extension.
        dataset_dir: folder of the data set, or its datalist.

    Raises:
        ValueError: the expression is wrong or fits no part of a path; the table lacks the column or an image.
        FileNotFoundError: there is no such table.
    """
    root = Path(dataset_dir).expanduser()
    root = root.parent if root.is_file() else root
    table = re.fullmatch(r"(.+\.csv):(.+)", group)
    if table is not None:
        names = _column(root / table[1], table[2])
        found = [names.get(Path(item["image"]).name, names.get(Path(item["image"]).stem)) for item in items]
        where = f"{table[1]} has no row with a {table[2]!r}"
    else:
        try:
            expression = re.compile(group)
        except re.error as error:
            raise ValueError(f"group {group!r} is no regular expression: {error}.") from error
        matches = [expression.search(_below(item["image"], root)) for item in items]
        found = [None if m is None else m[1 if expression.groups else 0] for m in matches]
        where = f"the regular expression {group!r} fits no part of the path"
    lacking = [str(item["image"]) for item, name in zip(items, found, strict=True) if not name]
    if lacking:
        raise ValueError(f"{where} of {len(lacking)} image(s): {', '.join(lacking[:5])}.")
    return [{**item, "group": name} for item, name in zip(items, found, strict=True)]


def split_folds(items: Sequence[Mapping[str, Any]], count: int, seed: int = 0) -> list[list[dict[str, Any]]]:
    """Deal items out to folds of about equal size, so that no group is in two of them.

    Args:
        items: items with ``image`` and ``group``.
        count: number of folds, from 1.
        seed: the same items and seed give the same folds, whatever the order of the items.

    Returns:
        The folds, each sorted by image path; together all the items.

    Raises:
        ValueError: fewer groups than folds.
    """
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for item in items:
        groups[str(item["group"])].append(dict(item))
    if not 1 <= count <= len(groups):
        raise ValueError(
            f"{len(items)} labelled image(s) of {len(groups)} group(s) (patients, video sequences, or single images) cannot be "
            f"divided into {count} folds: a group stays whole, and every fold needs one. Allowed are 1 to {len(groups)} folds."
        )
    names = sorted(groups)
    random.Random(seed).shuffle(names)
    folds: list[list[dict[str, Any]]] = [[] for _ in range(count)]
    # large groups first: what is small evens the sizes out in the end
    for name in sorted(names, key=lambda name: -len(groups[name])):
        min(folds, key=len).extend(groups[name])
    return [sorted(fold, key=lambda item: str(item["image"])) for fold in folds]


def _below(image: str, root: Path) -> str:
    path = Path(image)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _column(file: Path, column: str) -> dict[str, str]:
    if not file.is_file():
        raise FileNotFoundError(f"there is no table {file}; group names a CSV file in the data set folder.")
    with open(file, newline="", encoding="utf-8-sig") as stream:
        rows = csv.DictReader(stream)
        fields = rows.fieldnames or []
        if column not in fields:
            raise ValueError(f"{file} has no column {column!r}; it has {', '.join(fields) or 'none'}.")
        # a path in the table counts by its last part
        return {Path(row[fields[0]]).name: (row[column] or "").strip() for row in rows}
