"""Randomness that depends on numbers alone, so that any step of a run can be done again."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derived_seed(*parts: int) -> int:
    """Mix whole numbers of up to 64 bits into one 32-bit seed; neighbouring numbers give unrelated seeds."""
    return int(np.random.SeedSequence([part % 2**64 for part in parts]).generate_state(1)[0])


def derived_generator(*parts: int) -> torch.Generator:
    """Return a CPU generator that depends on these numbers alone."""
    return torch.Generator().manual_seed(derived_seed(*parts))


@contextmanager
def drawn_apart(name: str) -> Iterator[None]:
    """Within the context, torch's random numbers depend on its seed and a name alone, not on what was drawn before.

    First weights are then the same whatever else is built before them, such as a loader, which draws as many numbers as it has
    worker processes. The numbers that are drawn after the context are those that would have been drawn without it.

    Args:
        name: what is drawn.
    """
    seed = derived_seed(torch.initial_seed() % 2**63, zlib.crc32(name.encode()))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
