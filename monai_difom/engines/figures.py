"""The numbers of every training step, kept on the device and read together once in a while."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from ignite.engine import EventEnum

from ..utils import Readings
from .objective import Scored, check_finite


class FigureEvents(EventEnum):
    """``READ``: the trainer has read the numbers of some steps; `DistillationTrainer.figures` holds them."""

    READ = "figures_read"


@dataclass(frozen=True)
class StepFigures:
    """What one step cost, as plain numbers; of several processes the mean.

    Args:
        iteration: number of the step in the run, from 1.
        terms: term -> its unweighted value.
        weights: term -> the weight it had in the total.
        balance: term -> the balancer's share of that weight; balanced terms only.
    """

    iteration: int
    terms: dict[str, float]
    weights: dict[str, float]
    balance: dict[str, float]


class StepLog:
    """Collects steps until they are read.

    Terms that are not finite are found when they are read.
    """

    def __init__(self) -> None:
        self._readings = Readings(joined=True)
        self._read: list[StepFigures] = []

    def add(self, iteration: int, scored: Scored, weights: Mapping[str, float]) -> None:
        """Take a step in.

        Args:
            iteration: its number.
            scored: what it cost, on the device.
            weights: term -> the phase's weight.
        """
        if scored.terms:
            numbers = torch.stack([v.float() for v in (*scored.terms.values(), *scored.balance.values())])
            names, balanced = tuple(scored.terms), tuple(scored.balance)
            self._readings.add(numbers, partial(self._take, iteration, names, balanced, dict(weights)))

    def _take(
        self,
        iteration: int,
        names: Sequence[str],
        balanced: Sequence[str],
        weights: Mapping[str, float],
        numbers: list[float],
    ) -> None:
        terms = dict(zip(names, numbers, strict=False))
        balance = dict(zip(balanced, numbers[len(names) :], strict=True))
        check_finite(names, list(terms.values()))
        applied = {name: weights[name] * balance.get(name, 1.0) for name in names}
        self._read.append(StepFigures(iteration, terms, applied, balance))

    def fetch(self) -> Callable[[], list[StepFigures]]:
        """Read all steps since the last reading, with the other processes, and return what gives them.

        Raises:
            FloatingPointError: by what is returned; a term is not finite.
        """
        deliver = self._readings.fetch()

        def steps() -> list[StepFigures]:
            deliver()
            found, self._read = self._read, []
            return found

        return steps
