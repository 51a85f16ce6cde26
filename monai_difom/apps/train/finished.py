"""A finished training: its network, scores and report, and the box that says so."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.panel import Panel
from rich.table import Table as Grid
from rich.text import Text

from ...metrics import bootstrap_mean
from ..doctor.findings import WORDS, Finding, diagnose
from ..runs.claim import shown
from ..runs.compare import gains_over_control
from ..runs.folder import RunFolder
from ..runs.run import Run, read_run

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class FinishedRun:
    """What a training left.

    Args:
        folder: the run's folder.
        control: folder of the undistilled twin; None where none was trained.
    """

    folder: Path
    control: Path | None = None

    @cached_property
    def model(self) -> nn.Module:
        """The trained student, on the CPU, in eval mode."""
        from ..deployed.network import load_network

        return load_network(self.bundle)

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Test set -> score -> mean."""
        return dict(self.read.summary.get("test_sets", {}))

    @property
    def report(self) -> Path:
        """The page about the run, and about its control where there is one."""
        return RunFolder(self.folder).report

    @property
    def bundle(self) -> Path:
        """The trained student as a MONAI Bundle."""
        return RunFolder(self.folder).bundle

    @cached_property
    def read(self) -> Run:
        """All that the folder says."""
        return read_run(self.folder)

    def gains(self) -> dict[str, str]:
        """Return test set -> gain in Dice over the control, with its interval; empty without a control."""
        return {} if self.control is None else gains_over_control(self.read, self.control)

    def show(self, console: Console | None = None) -> None:
        """Print the box that ends a training."""
        grid, gains = Grid.grid(padding=(0, 2)), self.gains()
        for name, table in self.read.tables.items():
            dice = bootstrap_mean(table.columns["dice"], table.groups)
            grid.add_row(
                f"Dice, {name}", f"{dice.mean:.3f} ({dice.low:.3f} to {dice.high:.3f}), {dice.images} images"
            )
            if name in gains:
                grid.add_row("  gain over the control", gains[name])
        if not self.read.tables:
            grid.add_row("Dice", "no test set was scored")
        if self.read.epoch_kept:
            grid.add_row("Epoch kept", self.read.epoch_kept)
        for finding in self.findings():
            grid.add_row(WORDS[finding.level].capitalize(), Text(finding.found))
        grid.add_row("Model", shown(self.bundle))
        if self.report.is_file():
            grid.add_row("Report", shown(self.report))
        grid.add_row(
            "Next",
            f"monai-difom predict --model {shown(self.bundle)} --input IMAGES --output masks --overlay",
        )
        (console or Console()).print(Panel(grid, title=self.folder.name, expand=False))

    def findings(self) -> list[Finding]:
        """Return what the run's figures say, the worst first; see `diagnose`."""
        return diagnose([self.read], [read_run(self.control)] if self.control is not None else [])
