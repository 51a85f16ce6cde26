"""Trainings that take turns, one epoch each, so that a busy machine slows all of them alike.

Seconds are processor time of this process, as in `turns`: while one side has its turn, the others wait.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from ignite.engine import Events

from monai_difom.engines import DistillationTrainer


class TrainerTurns:
    """Runs a trainer in a thread of its own, an epoch at a time.

    Timed is what an epoch trains: from its start, when its phase is set, to the end of its last step. Validation, pictures and
    checkpoints behind it are part of the turn and not of the time.
    """

    def __init__(self, trainer: DistillationTrainer) -> None:
        self.trainer = trainer
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._start = self._seconds = 0.0
        self._error: BaseException | None = None
        trainer.add_event_handler(Events.EPOCH_STARTED, self._wait)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._time)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._done.acquire()
        self._check()

    def _run(self) -> None:
        try:
            self.trainer.run()
        except BaseException as error:
            self._error = error
        self._done.release()

    def _wait(self) -> None:
        self._done.release()
        self._go.acquire()
        self._start = time.process_time()

    def _time(self, engine: DistillationTrainer) -> None:
        if engine.state.iteration % engine.state.epoch_length == 0:
            self._seconds = time.process_time() - self._start

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def __call__(self) -> float:
        """Train one epoch and return its seconds."""
        self._go.release()
        self._done.acquire()
        self._check()
        return self._seconds


def take_turns(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every side in every round; each has one turn before, and the first changes from round to round.

    Args:
        sides: name -> what has its turn and returns its seconds.
        rounds: how often.
    """
    names = list(sides)
    for name in names:
        sides[name]()
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found[name].append(sides[name]())
    return found
