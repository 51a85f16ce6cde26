from __future__ import annotations

from collections import Counter

import pytest

from monai_difom.data import EpochSampler, MixedSampler


def epochs(sampler: MixedSampler, numbers: range) -> list[list[tuple[int, int]]]:
    drawn = []
    for number in numbers:
        sampler.set_epoch(number)
        assert len(list(sampler)) == len(sampler)
        drawn.append(list(sampler))
    return drawn


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_every_batch_has_the_stated_share_and_every_image_comes_as_often_as_its_like(share: float) -> None:
    sampler = MixedSampler(5, 23, batch_size=8, share=share, steps=3, seed=4)
    drawn = [item for epoch in epochs(sampler, range(9)) for item in epoch]
    assert len(drawn) == 9 * 3 * 8
    for start in range(0, len(drawn), 8):
        batch = [index for _, index in drawn[start : start + 8]]
        assert sum(index >= 5 for index in batch) == round(share * 8)
        assert batch[0] < 5  # a labelled image comes first
    assert len(set(drawn)) == len(drawn)  # an image that comes again is augmented anew
    times = Counter(index for _, index in drawn)
    for kind in (range(5), range(5, 28)):
        counts = [times[index] for index in kind]
        assert max(counts) - min(counts) <= 1


def test_an_epoch_is_one_pass_over_all_images_unless_a_number_of_batches_is_stated() -> None:
    assert len(MixedSampler(10, 22, batch_size=8)) == 4 * 8
    assert len(MixedSampler(1, 1, batch_size=8)) == 8
    assert len(MixedSampler(10, 22, batch_size=8, steps=7)) == 7 * 8


def test_what_comes_depends_on_seed_and_epoch_alone() -> None:
    first, second = (epochs(MixedSampler(5, 9, 4, seed=1), range(3)) for _ in range(2))
    assert first == second
    assert epochs(MixedSampler(5, 9, 4, seed=1), range(2, 3)) == first[2:]
    assert epochs(MixedSampler(5, 9, 4, seed=2), range(3)) != first


def test_several_processes_draw_together_what_one_draws_with_the_joined_batch() -> None:
    world, batch, steps = 3, 4, 5
    alone = MixedSampler(7, 19, batch * world, 0.5, steps, seed=3)
    ranks = [MixedSampler(7, 19, batch, 0.5, steps, seed=3, rank=rank, world=world) for rank in range(world)]
    for number in range(4):
        whole = epochs(alone, range(number, number + 1))[0]
        parts = [epochs(rank, range(number, number + 1))[0] for rank in ranks]
        for step in range(steps):
            joined = whole[step * batch * world : (step + 1) * batch * world]
            dealt = [item for part in parts for item in part[step * batch : (step + 1) * batch]]
            assert sorted(joined) == sorted(dealt)


@pytest.mark.parametrize("steps", [None, 2])
def test_without_unlabelled_images_it_is_the_plain_sampler(steps: int | None) -> None:
    mixed = MixedSampler(10, 0, 4, steps=steps, seed=6)
    plain = EpochSampler(10, 6, count=None if steps is None else 4 * steps)
    for number in range(3):
        mixed.set_epoch(number)
        plain.set_epoch(number)
        assert list(mixed) == list(plain)
    assert len(mixed) == len(plain)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 0.0}, "unlabelled_share is 0.0, 0 of 4"),
        ({"share": 1.0}, "unlabelled_share is 1.0, 4 of 4"),
        ({"share": 0.05}, "0 of 4 images"),
        ({"steps": 0}, "epoch_steps is 0"),
        ({"labelled": 0}, "length is 0"),
        ({"rank": 2, "world": 2}, "rank is 2"),
    ],
)
def test_what_cannot_be_dealt_out_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixedSampler(**{"labelled": 5, "unlabelled": 9, "batch_size": 4, **arguments})
