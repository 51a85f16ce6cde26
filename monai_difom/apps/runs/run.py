"""Read the folders of finished, or interrupted, runs."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...data import image_group
from ...metrics import score_columns, unit_of_length
from ...utils import few, load_state, look_up
from ...utils.documents import read_yaml
from .folder import RunError, RunFolder


@dataclass(frozen=True)
class Table:
    """Scores of one test set by one run, or by several.

    Args:
        images: name of every image, unique in the set, sorted; of many structures ``<image>: <structure>``, one row each.
        paths: file of every image.
        groups: independent unit (video sequence, or the image itself) of every image.
        columns: score or fact -> ``(runs, images)``.
        structures: structure of every row; empty where there is only one.
    """

    images: tuple[str, ...]
    paths: tuple[str, ...]
    groups: tuple[str, ...]
    columns: dict[str, np.ndarray]
    structures: tuple[str, ...] = ()

    @property
    def scores(self) -> list[str]:
        """Score columns, see `score_columns`."""
        return score_columns(self.columns)

    @property
    def unit(self) -> str:
        """Unit of its distances: "mm" or "px"."""
        return unit_of_length(self.columns)

    def only(self, images: Sequence[str]) -> Table:
        """Return the rows of these images."""
        places = [self.images.index(image) for image in images]
        images, paths, groups, structures = (
            tuple(rows[i] for i in places) if rows else ()
            for rows in (self.images, self.paths, self.groups, self.structures)
        )
        columns = {name: values[:, places] for name, values in self.columns.items()}
        return Table(images, paths, groups, columns, structures)

    def of_structure(self, name: str) -> Table:
        """Return the rows of one structure."""
        return self.only(
            [image for image, own in zip(self.images, self.structures, strict=True) if own == name]
        )


@dataclass(frozen=True)
class Run:
    """One run's folder, as far as it is there.

    Args:
        folder: the folder.
        tables: test set -> scores.
        summary: ``summary.json``, or nothing.
        history: one dict per epoch; of the checkpoint where the run was interrupted.
        record: ``run.json``, or nothing.
        config: ``config.yaml``, or nothing.
        missing: what the folder lacks, in words.
    """

    folder: Path
    tables: dict[str, Table]
    summary: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.folder.resolve().name

    @property
    def terms(self) -> list[str]:
        """Distillation terms that any phase weighed; empty for an undistilled run."""
        return sorted({term for epoch in self.history for term in epoch["weights"]} - {"segmentation"})

    @property
    def epoch_kept(self) -> str:
        """The epoch whose weights the run kept, and their validation score, in words; empty where it kept none yet."""
        best = self.summary.get("best") or {}
        if best.get("best_epoch") is None:
            return ""
        score = best.get("best")
        said = "not validated" if score is None else f"validation Dice {score:.3f}"
        return f"{best['best_epoch']}, {said}"

    def recipe(self) -> str:
        """Return what runs that differ in their seed alone have in common."""
        if self.config:
            ignored = ("seed", "output_dir", "ckpt_dir", "resume", "progress", "report", "num_workers")
            return json.dumps({k: v for k, v in self.config.items() if k not in ignored}, sort_keys=True)
        phases = [{**phase, "terms": sorted(phase["terms"])} for phase in self.summary.get("phases", [])]
        for phase in phases:
            phase.pop("seconds", None)
        common = [self.seedless, phases, self.summary.get("student"), sorted(self.tables)]
        return json.dumps(common, sort_keys=True)

    @property
    def seedless(self) -> str:
        """The folder's name without a final number."""
        return re.sub(r"[_-]?(?:seed)?\d+$", "", self.name) or self.name


def read_run(folder: str | os.PathLike) -> Run:
    """Read a run's folder.

    Raises:
        RunError: there is no such folder, it holds nothing of a run, or a file of it is damaged.
    """
    path, files = Path(folder), RunFolder(folder)
    if not path.is_dir():
        raise RunError(f"there is no run at {path}. Give the output_dir of a training or of an evaluation.")
    tables = read_tables(path)
    summary = files.read(files.summary) or files.read(files.evaluation) or {}
    record, history, checkpoint = files.read(files.record) or {}, files.read(files.history), files.state()
    if not (tables or summary or record or history or checkpoint):
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
        raise RunError(
            f"{path} is no run: it holds neither summary.json, run.json nor a table of scores. Found: {found}. "
            "Give the output_dir of a training or of an evaluation."
        )
    missing = []
    if history is None:
        log = load_state(checkpoint)["handlers"].get("phase_log", {}) if checkpoint else {}
        history = list(log.get("epochs", []))
        missing.append(
            f"history.json (the curves are those of {checkpoint.name}, up to epoch {len(history)})"
            if history and checkpoint
            else "history.json (no curves)"
        )
    if not summary:
        missing.append("summary.json: the run was interrupted, or is still going on")
    if not tables:
        missing.append("scores of test images (<set>.csv): no test set was scored")
    if not record:
        missing.append("run.json: made by an older version, or outside of a bundle (no times, no cost)")
    config = {}
    if files.config.is_file():
        config = read_yaml(files.config)
    return Run(path, tables, summary, history, record, config, tuple(missing))


def read_tables(folder: str | os.PathLike) -> dict[str, Table]:
    """Return test set -> scores of a run's folder."""
    return {file.stem: table for file in RunFolder(folder).tables() if (table := _read_table(file))}


def merge(tables: Sequence[Table], names: Sequence[str]) -> Table:
    """Put the scores of several runs on the same images into one table.

    Args:
        tables: one table per run.
        names: the runs' names, for the message.

    Raises:
        RunError: the images differ (lists them), or the unit of the distances.
    """
    first = tables[0]
    for name, table in zip(names[1:], tables[1:], strict=True):
        if table.images != first.images:
            raise RunError(f"the images differ. {difference(names[0], first.images, name, table.images)}")
        if table.unit != first.unit:
            raise RunError(
                f"distances are in {first.unit} in {names[0]} and in {table.unit} in {name}. Evaluate both with the same "
                "size of a pixel (spacing), or both without."
            )
    shared = [name for name in first.columns if all(name in table.columns for table in tables)]
    return Table(
        first.images,
        first.paths,
        first.groups,
        {name: np.concatenate([table.columns[name] for table in tables]) for name in shared},
        first.structures,
    )


def difference(first: str, these: Sequence[str], second: str, those: Sequence[str], shown: int = 8) -> str:
    """Return what is in one list and not in the other, in words."""
    parts = []
    for name, own, other in ((first, these, those), (second, those, these)):
        alone = [item for item in own if item not in set(other)]
        if alone:
            parts.append(f"Only in {name} ({len(alone)}): {few(alone, shown)}.")
    return " ".join(parts)


def check_scores(wanted: Sequence[str], table: Table) -> list[str]:
    """Return the wanted score columns; ``all`` stands for every one.

    Raises:
        ValueError: a score is not in the table; names the nearest.
    """
    if list(wanted) == ["all"]:
        return table.scores
    known = dict.fromkeys(table.scores)
    for name in wanted:
        look_up("score", name, known)
    return list(wanted)


def _read_table(file: Path) -> Table | None:
    """The table of a test set; None for a CSV of another kind."""
    with open(file, newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        names = reader.fieldnames or []
        if "image" not in names or "dice" not in names:
            return None
        rows = list(reader)
    if not rows:
        return None
    paths = [row["image"] for row in rows]
    top = (
        os.path.commonpath([os.path.dirname(path) or "." for path in paths])
        if all(map(os.path.dirname, paths))
        else ""
    )
    images = [os.path.relpath(path, top) if top else path for path in paths]
    if "structure" in names:
        images = [f"{image}: {row['structure']}" for image, row in zip(images, rows, strict=True)]
    order = sorted(range(len(rows)), key=images.__getitem__)
    groups = [row.get("group") or image_group(row["image"]) for row in rows]
    columns = {}
    for name in names:
        if name not in ("image", "group", "label", "structure"):
            try:
                columns[name] = np.array([[float(rows[i][name] or "nan") for i in order]])
            except (ValueError, TypeError) as error:
                raise RunError(f"{file}: column {name!r} holds what is no number: {error}.") from error
    names_of, files, units = (tuple(part[i] for i in order) for part in (images, paths, groups))
    structures = tuple(rows[i]["structure"] for i in order) if "structure" in names else ()
    return Table(names_of, files, units, columns, structures)
