"""Seeding a chain of random transforms anew for every item, without making its random states anew."""

from __future__ import annotations

import numpy as np
from monai.transforms import Compose, Randomizable
from monai.utils import MAX_SEED


class _OwnState(np.random.RandomState):
    """A random state that `reseed` made: no other transform draws from it, so it may be seeded in place."""


def reseed(transform: Randomizable, seed: int) -> None:
    """Do what ``transform.set_random_state(seed=seed)`` does; the transforms draw the same numbers afterwards.

    MONAI makes a new ``RandomState`` per transform and call, for which numpy first asks the system for chance
    (150 microseconds); seeding one that is there takes 1.5. A transform that sets more than its own state is left to
    MONAI's way.

    Args:
        transform: a random transform, or a `Compose` of transforms.
        seed: whole number from 0.
    """
    if type(transform).set_random_state not in (Randomizable.set_random_state, Compose.set_random_state):
        transform.set_random_state(seed=seed)
        return
    # one that was set from outside may be shared
    if type(transform.R) is not _OwnState:
        transform.R = _OwnState(0)
    transform.R.seed(seed % MAX_SEED)
    if isinstance(transform, Compose):
        for each in transform.transforms:
            if isinstance(each, Randomizable):
                reseed(each, int(transform.R.randint(MAX_SEED, dtype="uint32")))
