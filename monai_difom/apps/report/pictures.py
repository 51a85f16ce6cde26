"""Sections with pictures: worst, median and best images, largest losses and gains, teacher and student maps."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..runs.examples import picture
from ..runs.run import Run, RunError
from .columns import Column, baseline_of, students, test_set_names
from .html import details, grid, number, section, text
from .scores import DICE, paired

CHANGED = 4
TITLES = {"worst": "Worst", "median": "Median", "best": "Best"}


def examples(columns: Sequence[Column]) -> str:
    """Worst, median and best images of every student, and those that changed most against the baseline."""
    baseline, parts = baseline_of(columns), []
    for column in students(columns):
        lacking = not column.examples and column.tables
        if lacking:
            parts.append(
                f'<p class="warn">{text(column.label)} kept no outlines (folder examples): no pictures.</p>'
            )
        for name in test_set_names([column]):
            entries = column.examples.get(name, {})
            kept = sorted(
                entries.items(),
                key=lambda item: (list(TITLES).index(item[1].get("kind", "best")), item[1]["dice"]),
            )
            tiles = [_tile(column, baseline, name, path) for path, entry in kept if "kind" in entry]
            if tiles:
                parts.append(f"<h3>Worst, median and best: {text(name)}, {text(column.label)}</h3>")
                parts.append(grid(*tiles, kind="tiles"))
            if baseline not in (None, column) and entries:
                parts.append(_changed(column, baseline, name))  # type: ignore[arg-type]
    note = (
        "Of several runs the first one is drawn, with its own Dice; losses and gains are those of the means."
    )
    if all(len(column.runs) == 1 for column in columns):
        note = ""
    key = _key(baseline) if any("<img" in part for part in parts) else ""
    return section("Pictures", key, *parts, note=note)


def maps(columns: Sequence[Column]) -> str:
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
            parts.append(details(f"Earlier phases of {column.label}", "".join(shown[:-1])))
    note = (
        "Validation images after a phase: image, mask, prediction, then for every distillation term the teachers' fused "
        "map and the student's, both in the three main directions of the teachers' map. Equal colours mean equal "
        "features; colours of different rows may be compared, those of different terms may not."
    )
    return section("What the student takes over", *parts, note=note)


def _sheet(column: Column, file: Path) -> str:
    epoch, _, phase = file.stem.partition("_")
    caption = f"{column.label}, phase {phase}, epoch {int(epoch) if epoch.isdigit() else epoch}: {_terms(column.runs[0], phase)}"
    data = base64.b64encode(file.read_bytes()).decode("ascii")
    return (
        f'<figure class="sheet"><figcaption>{text(caption)}</figcaption><div class="scroll" tabindex="0">'
        f'<img src="data:image/png;base64,{data}" alt="{text(caption)}"></div></figure>'
    )


def _terms(run: Run, phase: str) -> str:
    used = dict.fromkeys(
        term for epoch in run.history if epoch["phase"] == phase for term in epoch["weights"]
    )
    names = [f"{term} (teacher, student)" for term in used if term != "segmentation"]
    return "columns image, label, prediction" + "".join(f", {name}" for name in names)


def _changed(column: Column, baseline: Column, name: str) -> str:
    """The images that lost and gained most against the baseline."""
    with suppress(RunError):
        found, both = paired(column, baseline, name, "dice")
        ends = (("Largest losses", found.order[:CHANGED]), ("Largest gains", found.order[::-1][:CHANGED]))
        paths = {_image_of(column, name, path): path for path in column.examples[name]}
        parts = ""
        for (title, order), sign in zip(ends, (-1, 1), strict=True):
            tiles = []
            for i in order:
                image = both.images[i]
                change = (column.mean_of(name, image) or 0) - (baseline.mean_of(name, image) or 0)
                if sign * change > 0 and image in paths:
                    tiles.append(_tile(column, baseline, name, paths[image], change))
            if any(tiles):
                parts += f"<h3>{title} against {text(baseline.label)}: {text(name)}</h3>" + grid(
                    *tiles, kind="tiles"
                )
        return parts
    return ""


def _tile(column: Column, baseline: Column | None, name: str, path: str, change: float | None = None) -> str:
    """One image with the outlines of mask, prediction and the baseline's prediction; empty without the image."""
    entry, image = column.examples[name][path], _image_of(column, name, path)
    other = _entry_of(baseline, name, image) if baseline is not None and baseline is not column else None
    jpeg = entry.get("jpeg") or (other or {}).get("jpeg")
    if jpeg is None:
        with suppress(OSError):  # the data set has moved
            jpeg = base64.b64encode(picture(path)).decode("ascii")
    if jpeg is None:
        return ""
    height, width = entry["height"], entry["width"]
    lines = [("truth", entry["truth"]), ("found", entry["prediction"])]
    if other is not None:
        lines.insert(1, ("before", other["prediction"]))
    paths = "".join(f'<path class="case" d="{d}"/><path class="{kind}" d="{d}"/>' for kind, d in lines if d)
    title = f"<b>{TITLES[entry['kind']]}.</b> " if entry.get("kind") in TITLES else ""
    if change is not None:
        title = f"<b>{number(change, '+', DICE)}.</b> "
    words = f"Dice {number(entry['dice'], score=DICE)}"
    words += f", baseline {number(other['dice'], score=DICE)}" if other is not None else ""
    words += f"; mask {100 * entry['foreground'] / (height * width):.1f} % of the image"
    return (
        f'<figure class="tile"><div class="shot" style="aspect-ratio:{width}/{height}">'
        f'<img src="data:image/jpeg;base64,{jpeg}" alt="{text(image)}: {words}">'
        f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">{paths}</svg></div>'
        f"<figcaption>{title}{words}<span class=ends>{text(image)}</span></figcaption></figure>"
    )


def _image_of(column: Column, name: str, path: str) -> str:
    """Name in the table of an image file."""
    table = column.tables.get(name)
    if table is not None and path in table.paths:
        return table.images[table.paths.index(path)]
    return Path(path).name


def _entry_of(column: Column, name: str, image: str) -> dict | None:
    entries = column.examples.get(name, {})
    return next((entry for path, entry in entries.items() if _image_of(column, name, path) == image), None)


def _key(baseline: Column | None) -> str:
    kinds = [("truth", "mask (truth)"), ("found", "prediction")]
    if baseline is not None:
        kinds.append(("before", f"prediction of {baseline.label}"))
    items = "".join(
        '<li><svg class="swatch dark" viewBox="0 0 34 12" aria-hidden="true">'
        f'<path class="{kind}" d="M1 6H33"/></svg>{text(words)}</li>'
        for kind, words in kinds
    )
    return f'<ul class="legend">{items}</ul>'
