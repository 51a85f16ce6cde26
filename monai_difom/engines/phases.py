"""Phases of a training, and the plan that puts them in order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any

from ..utils import unknown_name

Weight = float | Sequence[float]


@dataclass
class Phase:
    """A stretch of epochs with its own weights, frozen parts and learning-rate factor.

    Args:
        name: name in logs, pictures and the summary.
        epochs: number of epochs, 0 to leave the phase out.
        weights: loss term -> weight; a pair ``[first, last]`` goes linearly over the phase. Terms that are not named
            have weight 0. ``segmentation`` is the mask loss.
        freeze: student modules that must not change: no gradient and eval mode, so BatchNorm does not drift.
        lr: factor on the learning rate of the schedule.
    """

    name: str
    epochs: int
    weights: Mapping[str, Weight] = field(default_factory=lambda: {"segmentation": 1.0})
    freeze: Sequence[str] = ()
    lr: float = 1.0

    def __post_init__(self) -> None:
        if self.epochs < 0 or int(self.epochs) != self.epochs:
            raise ValueError(f"phase {self.name!r}: epochs is {self.epochs}; it must be a whole number >= 0.")
        for term, weight in self.weights.items():
            ends = list(weight) if isinstance(weight, Sequence) else [weight]
            if len(ends) not in (1, 2) or min(ends) < 0:
                raise ValueError(
                    f"phase {self.name!r}: weight of {term!r} is {weight}; give a number >= 0 or [first, last]."
                )

    def weight(self, term: str, progress: float) -> float:
        """Return the weight of a term at ``progress`` in [0, 1] of the phase."""
        value = self.weights.get(term, 0.0)
        if isinstance(value, Sequence):
            first, last = value[0], value[-1]
            return float(first + (last - first) * progress)
        return float(value)

    def uses(self, term: str) -> bool:
        """Return whether the term has a weight above 0 anywhere in the phase."""
        return max(self.weight(term, 0.0), self.weight(term, 1.0)) > 0


class Plan:
    """Phases in order.

    Args:
        phases: the phases; their names must differ.
        epochs: numbers of epochs that replace those of the phases, one each.

    Raises:
        ValueError: no epochs at all, names that repeat, or a list of epochs of another length.
    """

    def __init__(self, phases: Sequence[Phase], epochs: Sequence[int] | None = None) -> None:
        if epochs is not None:
            if isinstance(epochs, int) or len(epochs) != len(phases):
                names = ", ".join(phase.name for phase in phases)
                raise ValueError(
                    f"epochs is {epochs}; give a list of {len(phases)} numbers, one for each phase: {names}."
                )
            phases = [replace(phase, epochs=count) for phase, count in zip(phases, epochs, strict=True)]
        if len({phase.name for phase in phases}) != len(phases):
            raise ValueError(f"two phases share a name: {[phase.name for phase in phases]}.")
        self.phases = list(phases)
        if self.epochs == 0:
            raise ValueError("the plan has no epochs: give at least one phase a number above 0.")

    @property
    def epochs(self) -> int:
        """Number of epochs of all phases."""
        return sum(phase.epochs for phase in self.phases)

    def scaled(self, epochs: int) -> Plan:
        """Return the plan stretched or shrunk to a total, phases in proportion and none lost that fits."""
        borders = [0]
        for phase in self.phases:
            borders.append(borders[-1] + phase.epochs)
        places = [round(border * epochs / self.epochs) for border in borders]
        counts = [after - before for before, after in pairwise(places)]
        lost = [n for n, phase in enumerate(self.phases) if phase.epochs and not counts[n]]
        for place in lost:
            longest = max(range(len(counts)), key=counts.__getitem__)
            if counts[longest] > 1:
                counts[longest] -= 1
                counts[place] = 1
        return Plan(self.phases, counts)

    def check_terms(self, terms: Iterable[str]) -> None:
        """Refuse weights for terms that do not exist, with the nearest name."""
        known = ["segmentation", *terms]
        for phase in self.phases:
            for term in phase.weights:
                if term not in known:
                    raise ValueError(unknown_name(f"phase term (phase {phase.name!r})", term, known))

    def at(self, epoch: float) -> tuple[Phase, float]:
        """Return the phase at a time in epochs from 0, and how far it has gone, in [0, 1]."""
        start = 0
        running = [phase for phase in self.phases if phase.epochs]
        for phase in running:
            if epoch < start + phase.epochs:
                return phase, (epoch - start) / phase.epochs
            start += phase.epochs
        return running[-1], 1.0

    def ends(self) -> dict[int, Phase]:
        """Return the last epoch of every phase, counted from 1 -> the phase."""
        done, ends = 0, {}
        for phase in self.phases:
            done += phase.epochs
            if phase.epochs:
                ends[done] = phase
        return ends

    def as_dict(self) -> list[dict[str, Any]]:
        """Return plain data that says all about the plan, for checkpoints and summaries."""
        plain = []
        for phase in self.phases:
            entry = asdict(phase)
            entry["freeze"] = list(phase.freeze)
            entry["weights"] = {
                t: list(w) if isinstance(w, Sequence) else float(w) for t, w in phase.weights.items()
            }
            plain.append(entry)
        return plain


def with_defaults(plan: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a plan of `Plan.as_dict` that an older version wrote, with the fields that phases have today at their defaults."""
    (today,) = Plan([Phase("", 1)]).as_dict()
    return [{**today, **phase} for phase in plan]
