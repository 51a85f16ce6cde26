"""One self-contained page about one run or several: no network, every picture inside."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from markupsafe import Markup

from ...utils import atomic_path
from ..doctor.findings import WORDS, diagnose
from ..runs.folder import RunError
from ..runs.run import Run, read_run
from . import pictures, scores, structures, teachers, training
from .columns import Column, baseline_of, make_columns, students
from .html import EMPTY, document, piece


def make_report(columns: Sequence[Column]) -> str:
    """Return the page about some columns of runs."""
    named = ", ".join(column.label for column in students(columns))
    return document(
        f"Report: {named}",
        named,
        _lead(columns),
        banner(columns),
        scores.key_figures(columns),
        missing(columns),
        scores.results(columns),
        structures.by_structure(columns),
        scores.comparison(columns),
        pictures.examples(columns),
        scores.by_size(columns),
        training.curves(columns),
        training.collapse(columns),
        teachers.diagnostics(columns),
        pictures.maps(columns),
        training.cost(columns),
        training.record(columns),
    )


def banner(columns: Sequence[Column]) -> Markup:
    """What the runs say of themselves, and what to do about it; the worst first."""
    control, teacher = baseline_of(columns), [c for c in columns if c.role == "teacher"]
    shown = students(columns)
    lines = [
        {**asdict(finding), "word": WORDS[finding.level], "of": column.label if len(shown) > 1 else ""}
        for column in shown
        for finding in diagnose(
            column.runs,
            control.runs if control is not None and control is not column else (),
            [run for other in teacher for run in other.runs],
        )
    ]
    return piece("banner", lines) if lines else EMPTY


def missing(columns: Sequence[Column]) -> Markup:
    """What the folders lack."""
    lacking: dict[str, list[str]] = {}
    for column in columns:
        for run in column.runs:
            for item in run.missing:
                lacking.setdefault(item, []).append(run.name)
    lines = [f"Not in {', '.join(names)}: {item}." for item, names in lacking.items()]
    return piece("aside", lines) if lines else EMPTY


def _lead(columns: Sequence[Column]) -> Markup:
    """One line on what the page is about."""
    first = students(columns)[0].runs[0]
    about = first.summary.get("about") or {}
    task = f"{about['task']}, {about.get('data_source', '')}. " if about.get("task") else ""
    network = (first.summary.get("student") or first.record.get("student") or {}).get("network", "A network")
    named = ", ".join(training.teachers_of(first))
    if first.terms:
        taught = f", distilled from {named or 'its teachers'}"
    else:
        taught = (
            f", trained on drawn masks and on soft masks of {named}" if named else ", trained on masks alone"
        )
    if first.summary.get("unlabelled"):
        taught += (
            f", {first.summary['labelled']} labelled images and {first.summary['unlabelled']} without masks"
        )
    state = "" if first.summary else " The run is not finished."
    return piece("paragraph", f"{task}{network}{taught}.{state}", "note")


def write_report(
    runs: Sequence[str | os.PathLike],
    output: str | os.PathLike,
    baseline: Sequence[str | os.PathLike] = (),
    teacher: Sequence[str | os.PathLike] = (),
) -> Path:
    """Read runs and write the page about them.

    Args:
        runs: folders of runs; seeds of one recipe share a column.
        output: the HTML file.
        baseline: runs to compare with, usually the same student undistilled.
        teacher: runs, or evaluations, of the teacher itself.

    Returns:
        The file.

    Raises:
        RunError: a folder is no run, or seeds of one recipe were tested on different images.
    """
    if not runs:
        raise RunError("no run was given: name the output_dir of a training, or several.")
    groups: list[list[Run]] = [[read_run(folder) for folder in group] for group in (runs, baseline, teacher)]
    page = make_report(make_columns(*groups))
    with atomic_path(output) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return Path(output)


def run_report(
    runs: Sequence[str | os.PathLike],
    output: str | os.PathLike = "report.html",
    baseline: Sequence[str | os.PathLike] | None = None,
    teacher: Sequence[str | os.PathLike] | None = None,
) -> int:
    """Write a report, say where, and return the exit code: 0, or 2 where the runs cannot be read.

    Args:
        runs: see `write_report`.
        output: see `write_report`.
        baseline: see `write_report`.
        teacher: see `write_report`.
    """
    try:
        file = write_report(runs, output, baseline or (), teacher or ())
    except RunError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    print(f"{file} ({file.stat().st_size / 1e6:.1f} MB, opens in any browser without a network)")
    return 0
