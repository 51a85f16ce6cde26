"""Sections about the scores: key figures, tables, paired comparison, sizes of the structure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from ...metrics import MARKS, SCORES, Comparison, bootstrap_mean, score_of
from ..runs.compare import compare_tables, largest_losses
from ..runs.run import RunError, Table, merge
from .charts import Dot, interval_chart
from .columns import FAILURE, Column, baseline_of, students, test_set_names
from .html import (
    EMPTY,
    NONE,
    Part,
    below,
    details,
    grid,
    interval,
    join,
    number,
    piece,
    section,
    short,
    table,
    with_interval,
)

DICE = SCORES["dice"]
# shares of the image that the structure covers
SIZES = ((0.0, 0.02), (0.02, 0.05), (0.05, 0.1), (0.1, 0.2), (0.2, 1.01))


def paired(column: Column, baseline: Column, name: str, score: str) -> tuple[Comparison, Table]:
    """Compare a column with the baseline on a test set.

    Raises:
        RunError: either was not scored on the set, or on other images.
    """
    for side in (baseline, column):
        if score not in getattr(side.tables.get(name), "columns", {}):
            raise RunError(f"{side.label} has no {score_of(score).title} on {name}.")
    both = merge([baseline.tables[name], column.tables[name]], [baseline.label, column.label])
    return compare_tables(both, len(baseline.tables[name].columns[score]), score), both


def key_figures(columns: Sequence[Column]) -> Markup:
    """One card a student and test set: its Dice, and what changed against the baseline."""
    baseline, cards = baseline_of(columns), []
    for column in students(columns):
        for name in test_set_names(columns):
            found = column.estimate(name, "dice")
            if found is None:
                continue
            line = EMPTY
            if baseline is not None and baseline is not column:
                try:
                    change, _ = paired(column, baseline, name, "dice")
                    gain = piece("strong", number(change.difference.mean, "+", DICE))
                    ends = interval(change.difference, DICE, "+")
                    words = join(gain, f" ({ends}) against {baseline.label}: {change.verdict()}")
                    line = piece("paragraph", words)
                except RunError as error:
                    line = piece("paragraph", f"Not compared: {error}")
            ends = f"95 % interval {interval(found, DICE)}, {_extent(column.tables[name])}"
            cards.append(piece("card", name, number(found.mean, score=DICE), column.head, ends, line))
    return grid(*cards, kind="cards")


def results(columns: Sequence[Column]) -> Part | None:
    """One table per test set: scores down, runs across."""
    parts = []
    for name in test_set_names(columns):
        tables = [column.tables[name] for column in columns if name in column.tables]
        rows = []
        for score in dict.fromkeys(score for scored in tables for score in scored.scores):
            found = [column.estimate(name, score) for column in columns]
            known = score_of(score)
            title = known.heading(tables[0].unit) + ("" if known.higher_is_better else " ↓")
            rows.append([title, *(with_interval(e, known) if e else NONE for e in found)])
            if score == "e_measure_max":
                published = [number(column.figure(name, score), score=known) for column in columns]
                rows.append(["E-measure, max of the set's mean curve, as published", *published])
        for mark in MARKS.values():
            counts = [_count(column, name, mark.name) for column in columns]
            if any(count not in (NONE, "0") for count in counts):
                rows.append([mark.meaning, *counts])
        head = ["score", *(column.head for column in columns)]
        title = piece("heading", f"{name}: {_extent(tables[0])}")
        parts.append(grid(title, table(head, rows), kind="block"))
    note = (
        "Means over images, each at its mask's own size; below each the 95 % interval by bootstrap over images. Frames of one "
        "video sequence are drawn together where sequences are known, and so are several runs. ↓: less is better."
    )
    return section("Results", grid(*parts, kind="grid wide"), note=note)


def comparison(columns: Sequence[Column]) -> Part | None:
    """Every other column against the baseline, image by image."""
    baseline = baseline_of(columns)
    others = [column for column in columns if column.role == ""]
    if baseline is None or not others:
        return None
    rows, dots, losers, problems = [], [], [], []
    for name in test_set_names(columns):
        dots.append(Dot(name))
        for column in others:
            try:
                found, both = paired(column, baseline, name, "dice")
            except RunError as error:
                problems.append(piece("paragraph", f"Not compared: {error}", "warn"))
                continue
            change = found.difference
            unit = "sequences" if change.units < change.images else "images"
            p = "< 0.001" if found.p_value < 0.001 else f"{found.p_value:.3f}"
            rows.append(
                [
                    below(name, column.head),
                    with_interval(change, DICE, "+"),
                    found.verdict(),
                    *(f"{n} ({n / change.images:.0%})" for n in (found.better, found.worse)),
                    below(p, f"{change.units} {unit}"),
                ]
            )
            dots.append(Dot(column.label, change.mean, change.low, change.high, column.style))
            lost = largest_losses("dice", found, both, 10)
            body = [
                [both.images[i], *(number(x, score=DICE) for x in (a, b)), number(b - a, "+", DICE)]
                for i, a, b in lost
            ]
            losers.append(
                details(
                    f"Images that lost most: {name}, {column.label}",
                    table(["image", baseline.head, column.head, "change"], body),
                )
            )
    head = ["test set", "change of Dice", "verdict by the interval", "images better", "worse", "p, sign test"]
    chart = interval_chart("Change of Dice, with 95 % interval", dots, zero=True) if rows else EMPTY
    note = f"Against {baseline.label}, on the same images. Intervals and sign test are those of the results' table."
    both_sides = grid(chart, table(head, rows), kind="split")
    return section("Paired comparison", both_sides, *losers, *problems, note=note)


def by_size(columns: Sequence[Column]) -> Part | None:
    """Dice and failures by the share of the image that the structure covers."""
    needed = {"foreground", "height", "width"}
    known = [c for c in columns if any(needed <= set(t.columns) for t in c.tables.values())]
    if not known:
        why = "The tables of scores lack the columns foreground, height and width: run the evaluation again."
        return (
            section("By size of the structure", piece("paragraph", why, "warn"))
            if any(c.tables for c in columns)
            else None
        )
    parts = []
    for name in test_set_names(known):
        dots, rows = [], []
        for low, high in SIZES:
            label = (
                f"under {high:.0%}"
                if low == 0
                else f"over {low:.0%}"
                if high > 1
                else f"{low:.0%} to {high:.0%}"
            )
            cells, own, count = [], [], 0
            for column in known:
                inside = _of_size(column.tables.get(name), low, high)
                if inside is None or not inside.images:
                    cells.append(NONE)
                    continue
                dice = inside.columns["dice"]
                found, count = bootstrap_mean(dice, inside.groups), len(inside.images)
                failed = int((dice.mean(0) < FAILURE).sum())
                cells.append(below(with_interval(found, DICE), f"{failed} failed ({failed / count:.0%})"))
                own.append(Dot(column.label, found.mean, found.low, found.high, column.style))
            if count:
                dots += [Dot(f"{label} of the image, {count} images"), *own]
                rows.append([label, str(count), *cells])
        head = ["structure covers", "images", *(column.head for column in known)]
        if rows:
            chart = interval_chart(f"{name}: Dice by size of the structure, with 95 % interval", dots)
            parts.append(grid(chart, table(head, rows), kind="split"))
    note = f"Share of the image that the mask covers. Failed: Dice under {FAILURE}, mean of the runs. Empty masks are left out."
    return section("By size of the structure", *parts, note=note)


def _of_size(scored: Table | None, low: float, high: float) -> Table | None:
    if scored is None or not {"foreground", "height", "width", "dice"} <= set(scored.columns):
        return None
    area, height, width = (scored.columns[name][0] for name in ("foreground", "height", "width"))
    share = area / (height * width)
    kept = np.flatnonzero((area > 0) & (share >= low) & (share < high))
    return scored.only([scored.images[i] for i in kept])


def _extent(scored: Table) -> str:
    images, sequences = len(set(scored.paths)), len(set(scored.groups))
    several = f", {len(set(scored.structures))} structures" if scored.structures else ""
    return f"{images} images" + (f" of {sequences} sequences" if sequences < images else "") + several


def _count(column: Column, name: str, fact: str) -> str:
    values = getattr(column.tables.get(name), "columns", {}).get(fact)
    return NONE if values is None else short(float(np.nansum(values, axis=1).mean()))
