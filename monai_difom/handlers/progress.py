"""Progress bar of a training: loss terms, time left, and the share of time spent waiting for data."""

from __future__ import annotations

import time
from contextlib import ExitStack

from ignite.engine import Engine, Events
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..engines.trainer import DistillationTrainer
from ..utils import is_main_rank


class TrainingProgress:
    """One bar over all iterations of the run, with the phase as its title.

    ``wait`` is the share of the time since the run started that the loop stood still for the loader: near 0 the
    model is the bottleneck, far above it the data is (more workers or a larger cache help).

    Args:
        enabled: show the bar. `wait` is measured in any case.

    Attributes:
        wait: share of time waited for data, in [0, 1].
    """

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled
        self.wait = 0.0
        self._bar: tqdm | None = None
        self._redirect = ExitStack()
        self._waited = 0.0
        self._asked = 0.0
        self._begun = 0.0

    def attach(self, engine: DistillationTrainer) -> None:
        """Register with a trainer; the first process of a run shows the bar."""
        if not is_main_rank():
            return
        self.trainer = engine
        engine.add_event_handler(Events.STARTED, self._started)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._asks)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._got)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._step)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE | Events.EXCEPTION_RAISED, self._close)

    def _started(self, engine: Engine) -> None:
        self._begun = time.perf_counter()
        self._waited = 0.0
        if self.enabled:
            # log lines go above the bar instead of into it
            self._redirect.enter_context(logging_redirect_tqdm())
            total = self.trainer.plan.epochs * engine.state.epoch_length
            self._bar = tqdm(
                total=total, initial=engine.state.iteration, unit="batch", dynamic_ncols=True, mininterval=1.0
            )

    def _asks(self, _engine: Engine) -> None:
        self._asked = time.perf_counter()

    def _got(self, _engine: Engine) -> None:
        self._waited += time.perf_counter() - self._asked

    def _step(self, engine: Engine) -> None:
        self.wait = self._waited / max(time.perf_counter() - self._begun, 1e-9)
        if self._bar is None:
            return
        self._bar.set_description(
            f"{self.trainer.phase.name} {engine.state.epoch}/{self.trainer.plan.epochs}", refresh=False
        )
        if self._bar.n + 1 >= self._bar.last_print_n + (self._bar.miniters or 1):
            read = self.trainer.figures
            terms = {name: f"{value:.3g}" for name, value in read[-1].terms.items()} if read else {}
            self._bar.set_postfix({**terms, "wait": f"{self.wait:.0%}"}, refresh=False)
        self._bar.update()

    def _close(self, _engine: Engine, *error: BaseException) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
            self._redirect.close()
        if error:
            raise error[0]
