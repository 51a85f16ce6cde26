"""Randomness that depends on numbers alone, so that any step of a run can be done again."""

from __future__ import annotations

import numpy as np
import torch


def derived_seed(*parts: int) -> int:
    """Mix whole numbers from 0 into one 32-bit seed; neighbouring numbers give unrelated seeds."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def derived_generator(*parts: int) -> torch.Generator:
    """Return a CPU generator that depends on these numbers alone."""
    return torch.Generator().manual_seed(derived_seed(*parts))
