"""``monai-difom doctor``: what is wrong with a run, or right, and what to do about it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from ...utils import write_json
from ..runs.folder import RunError, RunFolder
from ..runs.run import read_run
from .findings import WORDS, Finding, diagnose

_STYLES = {"bad": "bold red", "doubt": "yellow", "good": "green"}


def run_doctor(
    run: Path,
    control: Sequence[str | os.PathLike] | None = None,
    teacher: Sequence[str | os.PathLike] | None = None,
    json: Path | None = None,
) -> int:
    """Print what the files of a run say, the worst first.

    Args:
        run: the run's folder.
        control: runs of the same student without teachers; the run's own control, of ``train --control``, where none is given.
        teacher: runs, or evaluations, of the teacher itself.
        json: file for the findings.

    Returns:
        The exit code: 0; 1 where there is a problem; 2 where a folder is no run.
    """
    try:
        found = examine(run, control or (), teacher or ())
    except RunError as error:
        print(f"doctor: {error}", file=sys.stderr)
        return 2
    if json is not None:
        write_json(json, [asdict(finding) for finding in found])
    show(found, Console())
    return int(any(finding.level == "bad" for finding in found))


def examine(
    folder: str | os.PathLike,
    control: Sequence[str | os.PathLike] = (),
    teacher: Sequence[str | os.PathLike] = (),
) -> list[Finding]:
    """Read a run's folder and those that it is compared with, and return what is to be said.

    Raises:
        RunError: a folder is no run.
    """
    own = RunFolder(folder).control
    twins = control or ([own] if own.is_dir() else [])
    return diagnose(
        [read_run(folder)], [read_run(path) for path in twins], [read_run(path) for path in teacher]
    )


def show(found: Sequence[Finding], console: Console) -> None:
    """Print findings as a table: how much each matters, what was found and what to do."""
    if not found:
        console.print("Nothing to report: the run was trained on masks alone.")
    grid = Grid.grid(padding=(0, 2))
    for finding in found:
        # as text: what files say is no markup
        grid.add_row(
            Text(WORDS[finding.level], _STYLES[finding.level]),
            Text(f"{finding.found}{f' {finding.advice}' if finding.advice else ''}"),
        )
    console.print(grid)
