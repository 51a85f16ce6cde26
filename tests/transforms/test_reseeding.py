"""A chain that is seeded in place draws what MONAI's `set_random_state` lets it draw."""

import pickle
from copy import deepcopy

import numpy as np
import pytest
import torch
from monai.transforms import (
    Compose,
    Lambdad,
    OneOf,
    RandAdjustContrastd,
    RandFlipd,
    RandGaussianNoised,
    RandomOrder,
    RandRotated,
    RandScaleIntensity,
    ToTensord,
)

from monai_difom.data import training_augmentation
from monai_difom.transforms import RandGeometryd, RandPhotometricd, RandViewd, reseed

IMAGE = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
KEYS = ("image",)


def random_chain() -> Compose:
    """Return transforms of ours and of MONAI, of one state and of several, in all kinds of chains."""
    return Compose(
        [
            RandViewd((*KEYS, "label")),
            RandGeometryd(("image", "label")),
            Compose([RandFlipd(KEYS, prob=0.5), Lambdad(KEYS, lambda x: x * 1.0)]),
            OneOf([RandGaussianNoised(KEYS, prob=1.0), RandAdjustContrastd(KEYS, prob=1.0)]),
            RandomOrder([RandRotated(KEYS, range_x=1.0, prob=0.5), RandFlipd(KEYS, prob=0.5)]),
            Lambdad(KEYS, RandScaleIntensity(0.1, prob=0.0)),
            ToTensord(KEYS),
        ]
    )


def drawn(chain: Compose) -> torch.Tensor:
    """Return what a chain makes of one image."""
    return chain({"image": IMAGE.clone(), "label": IMAGE[:1].clone().round()})["image"]


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 - 1, 2**40])
def test_it_draws_what_set_random_state_draws(seed: int) -> None:
    """For every seed, once and again, whatever was drawn in between."""
    ours, theirs = random_chain(), random_chain()
    for turn in (seed, seed + 1, seed):
        reseed(ours, turn)
        theirs.set_random_state(seed=turn)
        assert torch.equal(drawn(ours), drawn(theirs))
        assert torch.equal(drawn(ours), drawn(theirs)), "the second draw differs"


def test_a_copy_has_states_of_its_own() -> None:
    """Seeding a copied or pickled transform leaves the first one alone."""
    first = RandPhotometricd(KEYS)
    reseed(first, 3)
    for other in (deepcopy(first), pickle.loads(pickle.dumps(first))):
        wanted = deepcopy(first).R.random_sample()
        reseed(other, 4)
        assert deepcopy(first).R.random_sample() == wanted


def test_a_state_that_transforms_share_is_not_seeded_in_place() -> None:
    """MONAI gives a state to whom it is told to; each transform of a chain still draws by its own seed."""
    shared = np.random.RandomState(7)
    chain = Compose([RandViewd(KEYS), RandPhotometricd(KEYS)])
    for transform in chain.transforms:
        transform.set_random_state(state=shared)
    before = shared.get_state()[1].copy()
    reseed(chain, 5)
    assert (shared.get_state()[1] == before).all()
    assert chain.transforms[0].R is not chain.transforms[1].R


def test_the_default_augmentation_needs_no_new_state() -> None:
    """What every training uses is on the fast way: the states stay the same objects."""
    chain = training_augmentation()
    reseed(chain, 1)
    states = [t.R for t in chain.transforms if hasattr(t, "R")]
    reseed(chain, 2)
    assert states
    assert all(
        a is b for a, b in zip(states, [t.R for t in chain.transforms if hasattr(t, "R")], strict=True)
    )
