"""Batches of labelled and unlabelled images in a stated proportion."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from torch.utils.data import Sampler

from ..utils.seeds import derived_seed
from .dataset import EpochSampler


class MixedSampler(Sampler[tuple[int, int]]):
    """Yield ``(turn, index)`` so that every batch holds the same number of unlabelled items, behind the labelled ones.

    Labelled items are those with the first indices. Each kind is dealt out in an endless order of its own (see `EpochSampler`),
    so that few labelled images come often and many unlabelled ones seldom, each as often as its like. What comes depends on
    seed and epoch alone. Several processes share the joined batch: together they draw what one process with that batch would.

    Args:
        labelled: number of labelled items.
        unlabelled: number of unlabelled items; 0 leaves an `EpochSampler`.
        batch_size: items in a batch of one process; that of the loader.
        share: share of unlabelled items in a batch, in (0, 1), rounded to whole items; None deals all items out alike, so that
            each kind comes as often as it is there.
        steps: batches in an epoch; None for as many as one pass over all items takes.
        seed: seed of the orders.
        rank: number of this process, from 0.
        world: number of processes.

    Raises:
        ValueError: no labelled items, a share outside (0, 1) or that leaves no place for one kind, steps below 1, a rank outside
            the world.
    """

    def __init__(
        self,
        labelled: int,
        unlabelled: int = 0,
        batch_size: int = 16,
        share: float | None = 0.5,
        steps: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if steps is not None and steps < 1:
            raise ValueError(
                f"epoch_steps is {steps}; an epoch has at least one batch, or null for one pass."
            )
        self.batch_size, self.parts, self.offset = int(batch_size), [], int(labelled)
        if not unlabelled or share is None:
            count = None if steps is None else steps * batch_size
            self._alone = EpochSampler(labelled + unlabelled, seed, rank=rank, world=world, count=count)
            self.steps = -(-len(self._alone) // batch_size)
            return
        second = round(share * batch_size)
        if not 0 < share < 1 or not 0 < second < batch_size:
            raise ValueError(
                f"unlabelled_share is {share}, {second} of {batch_size} images in a batch; allowed is a share between 0 and 1 "
                "that leaves at least one image of each kind in a batch. For no unlabelled images set unlabelled to null."
            )
        self.steps = steps or max(1, (labelled + unlabelled) // (batch_size * world))
        first = batch_size - second
        self.parts = [
            EpochSampler(length, own, rank=rank, world=world, count=self.steps * share_of_batch)
            for length, own, share_of_batch in (
                (labelled, seed, first),
                (unlabelled, derived_seed(seed, 1), second),
            )
        ]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration (an iteration that is under way keeps its own)."""
        for part in self.parts or [self._alone]:
            part.set_epoch(epoch)

    def __len__(self) -> int:
        return self.steps * self.batch_size if self.parts else len(self._alone)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        if not self.parts:
            yield from self._alone
            return
        first, second = (iter(part) for part in self.parts)
        sizes = [len(part) // self.steps for part in self.parts]
        for _ in range(self.steps):
            yield from islice(first, sizes[0])
            for turn, index in islice(second, sizes[1]):
                yield turn, self.offset + index
