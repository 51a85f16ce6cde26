"""Sections with pictures: worst, median and best images, largest losses and gains, teacher and student maps."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from markupsafe import Markup

from ..runs.examples import picture
from ..runs.run import Run, RunError
from .charts import STYLES
from .columns import Column, baseline_of, students, test_set_names
from .html import EMPTY, Part, Shape, details, grid, join, number, piece, section
from .scores import DICE, paired

CHANGED = 4
LISTED = 100  # images of a test set that are folded away below those; a page stays some megabytes long
TITLES = {"worst": "Worst", "median": "Median", "best": "Best"}


def examples(columns: Sequence[Column]) -> Part | None:
    """Worst, median and best images of every student, and those that changed most against the baseline."""
    baseline, parts = baseline_of(columns), []
    for column in students(columns):
        lacking = not column.examples and column.tables
        if lacking:
            words = f"{column.label} kept no outlines (folder examples): no pictures."
            parts.append(piece("paragraph", words, "warn"))
        for name in test_set_names([column]):
            entries = column.examples.get(name, {})
            order = list(TITLES)
            kept = sorted(
                ((path, entry) for path, entry in entries.items() if entry.get("kind") in order),
                key=lambda item: (order.index(item[1]["kind"]), item[1]["dice"]),
            )
            tiles = [_tile(column, baseline, name, path) for path, _ in kept]
            if tiles:
                parts.append(piece("heading", f"Worst, median and best: {name}, {column.label}"))
                parts.append(grid(*tiles, kind="tiles"))
            if baseline not in (None, column) and entries:
                parts.append(_changed(column, baseline, name))  # type: ignore[arg-type]
            if len(entries) > len(tiles):
                parts.append(_all(column, baseline, name))
    note = (
        "Of several runs the first one is drawn, with its own Dice; losses and gains are those of the means."
    )
    if all(len(column.runs) == 1 for column in columns):
        note = ""
    if any("<img" in part for part in parts):
        parts[:0] = [_key(columns, baseline), piece("sorting", baseline is not None)]
    return section("Pictures", *parts, note=note)


def maps(columns: Sequence[Column]) -> Part | None:
    """The sheets of the run: predictions, and teacher and student maps in the same colours."""
    parts = []
    for column in columns:
        run = column.runs[0]
        sheets = sorted((run.folder / "pictures").glob("*.png"))
        if not sheets or not run.terms:
            continue
        # the last sheet that shows a distillation term: the one of the last phase that weighs one
        phases = [epoch["phase"] for epoch in run.history if set(epoch["weights"]) - {"segmentation"}]
        own = [sheet for sheet in sheets if sheet.stem.partition("_")[2] in phases] or sheets
        shown = [_sheet(column, sheet) for sheet in own]
        parts.append(shown[-1])
        if shown[:-1]:
            parts.append(details(f"Earlier phases of {column.label}", join(*shown[:-1])))
    note = (
        "Validation images after a phase: image, mask, prediction, then for every distillation term the teachers' fused "
        "map and the student's, both in the three main directions of the teachers' map. Equal colours mean equal "
        "features; colours of different rows may be compared, those of different terms may not."
    )
    return section("What the student takes over", *parts, note=note)


def _sheet(column: Column, file: Path) -> Markup:
    epoch, _, phase = file.stem.partition("_")
    caption = f"{column.label}, phase {phase}, epoch {int(epoch) if epoch.isdigit() else epoch}: {_terms(column.runs[0], phase)}"
    data = base64.b64encode(file.read_bytes()).decode("ascii")
    return piece("sheet", data, caption)


def _terms(run: Run, phase: str) -> str:
    used = dict.fromkeys(
        term for epoch in run.history if epoch["phase"] == phase for term in epoch["weights"]
    )
    names = [f"{term} (teacher, student)" for term in used if term != "segmentation"]
    return "columns image, label, prediction" + "".join(f", {name}" for name in names)


def _changed(column: Column, baseline: Column, name: str) -> Markup:
    """The images that lost and gained most against the baseline."""
    with suppress(RunError):
        found, both = paired(column, baseline, name, "dice")
        ends = (("Largest losses", found.order[:CHANGED]), ("Largest gains", found.order[::-1][:CHANGED]))
        paths = {_image_of(column, name, path): path for path in column.examples[name]}
        parts = EMPTY
        for (title, order), sign in zip(ends, (-1, 1), strict=True):
            tiles = []
            for i in order:
                image = both.images[i]
                change = (column.mean_of(name, image) or 0) - (baseline.mean_of(name, image) or 0)
                if sign * change > 0 and image in paths:
                    tiles.append(_tile(column, baseline, name, paths[image], change))
            if any(tiles):
                heading = piece("heading", f"{title} against {baseline.label}: {name}")
                parts = join(parts, heading, grid(*tiles, kind="tiles"))
        return parts
    return EMPTY


def _all(column: Column, baseline: Column | None, name: str) -> Markup:
    """Every image of a test set, folded away; of a large one those with the lowest Dice."""
    entries = column.examples[name]
    order = sorted(entries, key=lambda path: entries[path]["dice"])[:LISTED]
    tiles = grid(*(_tile(column, baseline, name, path) for path in order), kind="tiles")
    chosen = "All" if len(order) == len(entries) else f"The {len(order)} lowest of"
    return details(f"{chosen} {len(entries)} images: {name}, {column.label}", tiles) if tiles else EMPTY


def _tile(
    column: Column, baseline: Column | None, name: str, path: str, change: float | None = None
) -> Markup:
    """One image with the outlines of mask, prediction and the baseline's prediction; empty without the image."""
    entry, image = column.examples[name][path], _image_of(column, name, path)
    other = _entry_of(baseline, name, image) if baseline is not None and baseline is not column else None
    jpeg = entry.get("jpeg") or (other or {}).get("jpeg")
    if jpeg is None:
        with suppress(OSError):  # the data set has moved
            jpeg = base64.b64encode(picture(path)).decode("ascii")
    if jpeg is None:
        return EMPTY
    height, width = entry["height"], entry["width"]
    lines = [("truth", entry["truth"]), (f"found s{column.style % STYLES}", entry["prediction"])]
    if other is not None and baseline is not None:
        lines.insert(1, (f"before s{baseline.style % STYLES}", other["prediction"]))
    shapes = [Shape("path", {"class": k, "d": d}) for kind, d in lines if d for k in ("case", kind)]
    title = TITLES.get(entry.get("kind"), "") if change is None else number(change, "+", DICE)
    share = entry["foreground"] / (height * width)
    words = f"Dice {number(entry['dice'], score=DICE)}"
    words += f", baseline {number(other['dice'], score=DICE)}" if other is not None else ""
    words += f"; mask {100 * share:.1f} % of the image"
    gained = entry["dice"] - other["dice"] if other is not None else 0.0
    facts = {"dice": entry["dice"], "change": gained if change is None else change, "share": share}
    outlines = piece("svg", "outlines", width, height, "", shapes)
    shown = {"image": image, "jpeg": jpeg, "width": width, "height": height, "outlines": outlines}
    return piece("tile", {**shown, **facts, "title": title, "words": words})


def _image_of(column: Column, name: str, path: str) -> str:
    """Name in the table of an image file."""
    table = column.tables.get(name)
    if table is not None and path in table.paths:
        return table.images[table.paths.index(path)]
    return Path(path).name


def _entry_of(column: Column, name: str, image: str) -> dict | None:
    entries = column.examples.get(name, {})
    return next((entry for path, entry in entries.items() if _image_of(column, name, path) == image), None)


def _key(columns: Sequence[Column], baseline: Column | None) -> Markup:
    kinds = [("truth", "mask (truth)")]
    kinds += [
        (f"found s{column.style % STYLES}", f"prediction of {column.label}") for column in students(columns)
    ]
    if baseline is not None and baseline not in students(columns):
        kinds.append((f"before s{baseline.style % STYLES}", f"prediction of {baseline.label}"))
    swatches = [
        (piece("svg", "swatch dark", 34, 12, "", [Shape("path", {"class": kind, "d": "M1 6H33"})]), words)
        for kind, words in kinds
    ]
    return piece("legend", swatches)
