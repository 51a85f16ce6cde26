"""What a training shows while it runs: a live table in a terminal, plain lines in a file."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import ExitStack
from typing import Any

import torch
from ignite.engine import Engine, Events
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from ..engines.trainer import DistillationTrainer
from ..utils import is_main_rank
from ..utils.durations import duration

logger = logging.getLogger(__name__)
_TIMED = 5  # steps, after the first, which builds kernels and fills caches
_REFRESH = 0.5


class TrainingProgress:
    """A live table of the run: phase, loss terms, validation, the share of time spent waiting for data, time left.

    ``wait`` is the share of the time since the run started that the loop stood still for the loader: near 0 the
    model is the bottleneck, far above it the data is (more workers or a larger cache help).

    After a few steps one line says how long the run will take and how much memory it has taken so far. Where the output is no
    terminal there is no table; the lines of `PhaseLog` tell of every epoch.

    Args:
        enabled: show the table. `wait` is measured in any case.
        console: where to show it; None takes the process's own output.

    Attributes:
        wait: share of time waited for data, in [0, 1].
    """

    def __init__(self, enabled: bool = True, console: Console | None = None) -> None:
        self.enabled = enabled
        self.console = console
        self.wait = 0.0
        self._live: Live | None = None
        self._open = ExitStack()
        self._waited = self._asked = self._begun = self._shown = 0.0
        self._steps = 0

    def attach(self, engine: DistillationTrainer) -> None:
        """Register with a trainer; the first process of a run shows the table."""
        if not is_main_rank():
            return
        self.trainer = engine
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._asks)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._got)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE | Events.EXCEPTION_RAISED, self._close)

    def _started(self, _engine: Engine) -> None:
        self._begun = time.perf_counter()
        self._waited, self._steps = 0.0, 0
        console = self.console or Console()
        if self.enabled and console.is_terminal:
            self._live = Live(console=console, auto_refresh=False)
            self._open.enter_context(self._live)
            # handlers of the log hold the output that they found: their lines must go above the table
            for handler in logging.getLogger().handlers:
                if isinstance(handler, logging.StreamHandler) and handler.stream in (
                    sys.__stdout__,
                    sys.__stderr__,
                ):
                    self._open.callback(handler.setStream, handler.setStream(sys.stdout))

    def _asks(self, _engine: Engine) -> None:
        self._asked = time.perf_counter()

    def _got(self, _engine: Engine) -> None:
        self._waited += time.perf_counter() - self._asked

    def _step(self, engine: Engine) -> None:
        now = time.perf_counter()
        self.wait = self._waited / max(now - self._begun, 1e-9)
        self._steps += 1
        if self._steps == 1:
            self._first = now
        if self._steps == 1 + _TIMED:
            self._foretell(engine, (now - self._first) / _TIMED)
        if self._live is not None and now - self._shown > _REFRESH:
            self._shown = now
            self._live.update(self.table(engine), refresh=True)

    def _foretell(self, engine: Engine, seconds: float) -> None:
        """Say what is to come, once a few steps are timed."""
        left = self.trainer.plan.epochs * engine.state.epoch_length - engine.state.iteration
        logger.info(
            "%s a step: about %s for the %d steps left, without validation. Memory so far: %s.",
            duration(seconds),
            duration(seconds * left),
            left,
            memory(self.trainer.state.device),
        )

    def table(self, engine: Engine) -> Table:
        """Return what is shown after a step."""
        state, trainer = engine.state, self.trainer
        total = trainer.plan.epochs * state.epoch_length
        grid = Table.grid(padding=(0, 2))
        grid.add_row("phase", f"{trainer.phase.name}, epoch {state.epoch} of {trainer.plan.epochs}")
        grid.add_row(
            "steps",
            ProgressBar(total=total, completed=state.iteration, width=40),
            f"{state.iteration} of {total}",
        )
        read = trainer.figures
        for term, value in (read[-1].terms if read else {}).items():
            grid.add_row(term, f"{value:.4g}")
        for name, text in self._validation().items():
            grid.add_row(name, text)
        gone = time.perf_counter() - self._begun
        left = gone / max(self._steps, 1) * (total - state.iteration)
        grid.add_row("waits for data", f"{self.wait:.0%} of the time")
        grid.add_row("time", f"{duration(gone)} gone, about {duration(left)} left")
        return grid

    def _validation(self) -> dict[str, str]:
        """Validation scores: the newest, and the best so far."""
        log: Any = self.trainer.stateful.get("phase_log")
        epochs = [entry["validation"] for entry in getattr(log, "epochs", []) if entry.get("validation")]
        if not epochs:
            return {}
        return {
            name: f"{value:.4f} (best {max(e[name] for e in epochs if name in e):.4f})"
            for name, value in epochs[-1].items()
        }

    def _close(self, engine: Engine, *error: BaseException) -> None:
        if self._live is not None:
            self._live.update(self.table(engine), refresh=True)
            self._live = None
        self._open.close()
        if error:
            raise error[0]


def memory(device: torch.device) -> str:
    """Return the most memory that this process has held, on its device too."""
    try:
        import resource
    except ImportError:  # Windows does not tell
        held = "not known"
    else:
        held = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2:.1f} GB"
    if device.type == "cuda":
        held += f", on the GPU {torch.cuda.max_memory_allocated(device) / 1024**3:.1f} GB"
    return held
