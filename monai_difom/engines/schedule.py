"""Learning-rate shapes over a whole training: a factor for every share of it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class OneCycle:
    """Cosine up to the full rate, then cosine down (Smith and Topin, 2018).

    Args:
        warmup: share of the training that goes up, in [0, 1).
        start: factor at the start.
        end: factor at the end.
    """

    warmup: float = 0.3
    start: float = 0.04
    end: float = 4e-6

    def __call__(self, progress: float) -> float:
        """Return the factor at ``progress`` in [0, 1]."""
        if progress < self.warmup:
            return self.start + (1 - self.start) * 0.5 * (1 - math.cos(math.pi * progress / self.warmup))
        share = (progress - self.warmup) / (1 - self.warmup)
        return self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


@dataclass(frozen=True)
class Constant:
    """The full rate all the time."""

    def __call__(self, progress: float) -> float:
        """Return 1."""
        return 1.0
