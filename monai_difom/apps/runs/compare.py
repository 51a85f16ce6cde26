"""Whether one run is better than another on the same test images, or runs of several seeds than others."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...metrics import Comparison, Estimate, Score, compare_paired, score_of
from ...utils import write_json
from .run import (
    Run,
    RunError,
    Table,
    check_scores,
    difference,
    merge,
    read_run,
)

LOSERS = 5


def run_compare(
    runs: Sequence[str | os.PathLike],
    a: Sequence[str | os.PathLike] | None = None,
    b: Sequence[str | os.PathLike] | None = None,
    metric: Sequence[str] = ("dice",),
    json: str | os.PathLike | None = None,
) -> int:
    """Print what changes from A to B, and return the exit code: 0, or 2 where they cannot be compared.

    Args:
        runs: two folders, A and B.
        a: folders of A, one per seed, in place of `runs`.
        b: folders of B.
        metric: score columns; ``all`` for every one.
        json: file for the figures.
    """
    try:
        first, second = _sides(runs, a, b)
        names = [[str(run.folder) for run in side] for side in (first, second)]
        found = compare_runs(first, second, metric)
    except (RunError, ValueError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    for letter, folders in zip("AB", names, strict=True):
        print(f"{letter}  {', '.join(folders)}")
    for name, scores in found.items():
        print(f"\n{name}")
        for score, (comparison, table) in scores.items():
            print("\n".join(f"  {line}" for line in describe(score, comparison, table)))
    print("\nIntervals: 95 %, bootstrap over images; over sequences and runs where there are several.")
    if json is not None:
        write_json(json, {"a": names[0], "b": names[1], "test_sets": as_dict(found)})
    return 0


def compare_runs(
    a: Sequence[Run], b: Sequence[Run], metrics: Sequence[str] = ("dice",)
) -> dict[str, dict[str, tuple[Comparison, Table]]]:
    """Return test set -> score -> comparison, and the table of A and B together (runs of A first).

    Raises:
        RunError: no scores, or other test sets or images on one side; lists what differs.
        ValueError: no such score; names the nearest.
    """
    runs = [*a, *b]
    names = [str(run.folder) for run in runs]
    for run in runs:
        if not run.tables:
            raise RunError(f"{run.folder} has no scores of test images (<set>.csv): evaluate it first.")
        if set(run.tables) != set(runs[0].tables):
            stray = difference(names[0], sorted(runs[0].tables), str(run.folder), sorted(run.tables))
            raise RunError(f"the test sets differ. {stray}")
    found: dict[str, dict[str, tuple[Comparison, Table]]] = {}
    for name in runs[0].tables:
        table = merge([run.tables[name] for run in runs], [f"{folder}/{name}" for folder in names])
        found[name] = {
            score: (compare_tables(table, len(a), score), table) for score in check_scores(metrics, table)
        }
    return found


def gains_over_control(run: Run, control: str | os.PathLike) -> dict[str, str]:
    """Return test set -> gain in Dice of a run over its undistilled twin, with interval and verdict."""
    texts = {}
    for name, scores in compare_runs([read_run(control)], [run]).items():
        change, better = scores["dice"][0].difference, scores["dice"][0].verdict()
        texts[name] = f"{change.mean:+.3f} ({change.low:+.3f} to {change.high:+.3f}): {better}"
    return texts


def compare_tables(table: Table, first: int, score: str) -> Comparison:
    """Compare the first runs of a table with the others on one score."""
    values = table.columns[score]
    return compare_paired(values[:first], values[first:], table.groups, score_of(score).higher_is_better)


def describe(score: str, found: Comparison, table: Table) -> list[str]:
    """Return a comparison as lines of text."""
    change, known = found.difference, score_of(score)
    unit = f"{change.units} sequences" if change.units < change.images else f"{change.images} images"
    lines = [
        f"{known.heading(table.unit)}: A {_with_ends(known, found.a)}, B {_with_ends(known, found.b)}",
        f"  B - A {_with_ends(known, change, '+')}: B is {found.verdict(known.higher_is_better)}",
        f"  B better on {found.better} of {change.images} images, worse on {found.worse}, equal on {found.same}; "
        f"sign test over {unit}: p = {found.p_value:.2g}",
    ]
    losers = largest_losses(score, found, table)
    if losers:
        text = ", ".join(f"{table.images[i]} {before:.3g} -> {after:.3g}" for i, before, after in losers)
        lines.append(f"  largest losses: {text}")
    return lines


def largest_losses(
    score: str, found: Comparison, table: Table, count: int = LOSERS
) -> list[tuple[int, float, float]]:
    """Return index, score of A and score of B of the images that lost most; only such that lost."""
    first, values = found.a.runs, table.columns[score]
    rows = [
        (i, float(values[:first, i].mean()), float(values[first:, i].mean())) for i in found.order[:count]
    ]
    sign = 1 if score_of(score).higher_is_better else -1
    return [(i, before, after) for i, before, after in rows if sign * (after - before) < 0]


def as_dict(found: dict[str, dict[str, tuple[Comparison, Table]]]) -> dict[str, Any]:
    """Return comparisons as plain data, images by name."""
    plain: dict[str, Any] = {}
    for name, scores in found.items():
        for score, (comparison, table) in scores.items():
            entry = {key: value for key, value in asdict(comparison).items() if key != "order"}
            losers = largest_losses(score, comparison, table)
            entry["verdict"] = comparison.verdict(score_of(score).higher_is_better)
            entry["largest_losses"] = [{"image": table.images[i], "a": x, "b": y} for i, x, y in losers]
            plain.setdefault(name, {})[score] = entry
    return plain


def _with_ends(score: Score, estimate: Estimate, sign: str = "") -> str:
    mean, low, high = (score.show(x, sign) for x in (estimate.mean, estimate.low, estimate.high))
    return f"{mean} (interval unknown: one unit)" if estimate.units < 2 else f"{mean} ({low} to {high})"


def _sides(
    runs: Sequence[str | os.PathLike],
    a: Sequence[str | os.PathLike] | None,
    b: Sequence[str | os.PathLike] | None,
) -> list[list[Run]]:
    if (a or b) and not (a and b and not runs):
        raise RunError("give two runs, or several as --a RUN... --b RUN...; not both ways at once.")
    if not a and len(runs) != 2:
        raise RunError(
            f"{len(runs)} runs were given; two are compared: A and B. For several seeds use --a and --b."
        )
    chosen = [a, b] if a and b else [[runs[0]], [runs[1]]]
    sides = [[read_run(Path(folder)) for folder in side] for side in chosen]
    return sides
