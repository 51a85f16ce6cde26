"""A cached data set whose augmentation is a pure function of seed, epoch and index."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from monai.data import CacheDataset
from monai.transforms import Compose, RandomizableTrait
from torch.utils.data import Dataset, Sampler

from ..transforms import RandGeometryd, RandViewd, allowed_views, reseed
from ..utils.seeds import derived_seed
from .feature_store import PICTURE, FeatureStore, image_keys, image_name
from .feature_store.policies import check_augmentation, flattened, stored_chain, teacher_chain
from .soft_masks import AnySoftMasks, check_soft_mask_chain, with_soft_masks

logger = logging.getLogger(__name__)


class ItemError(RuntimeError):
    """An item of a data set cannot be loaded or augmented; the message names its files."""


class EpochSampler(Sampler[tuple[int, int]]):
    """Yield ``(epoch, index)`` pairs, in an order that depends on seed and epoch only.

    The epoch travels with the index, so loader workers that live for many epochs know it too.

    Several processes deal the one order out like cards: together their k-th batches are the k-th batch of one process with the
    joined batch size. All get equally many. What is left over of an order (fewer items than processes, others in every epoch)
    is dropped, so that no item comes twice in an epoch; with ``pad`` the order begins anew instead and every item comes.

    With ``count`` the epochs are stretches of one endless order, a permutation of all items after another, so that every item
    comes as often as every other over the run, whatever the length of an epoch. What travels with the index is then the number
    of the permutation: an item that comes twice in an epoch is augmented in two ways.

    Args:
        length: number of items of all processes together.
        seed: seed of the order.
        shuffle: permute the indices; otherwise they come in their own order.
        rank: number of this process, from 0.
        world: number of processes.
        pad: repeat the first items of the order where it cannot be dealt out evenly, instead of dropping its last.
        count: number of items that each process gets in an epoch; None for one pass over all items.

    Raises:
        ValueError: fewer items than processes (without ``pad`` or ``count``) or none, a rank outside the world, a negative epoch,
            a count below 1.
    """

    def __init__(
        self,
        length: int,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
        pad: bool = False,
        count: int | None = None,
    ) -> None:
        if length < 1:
            raise ValueError(
                f"length is {length}; a sampler needs at least one item. Is the list of images empty?"
            )
        if not 0 <= rank < world:
            raise ValueError(
                f"rank is {rank}; allowed is 0 to {world - 1} in a world of {world} process(es)."
            )
        if count is not None and count < 1:
            raise ValueError(f"count is {count}; an epoch has at least one item, or null for all of them.")
        if length < world and not pad and count is None:
            raise ValueError(
                f"{length} item(s) cannot be dealt out to {world} processes without repeating some. Start fewer processes "
                "(--nproc_per_node), or set pad."
            )
        self.length, self.seed, self.shuffle = int(length), int(seed), shuffle
        self.rank, self.world, self.pad = int(rank), int(world), pad
        self.count = None if count is None else int(count)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration (an iteration that is under way keeps its own)."""
        if epoch < 0:
            raise ValueError(f"epoch is {epoch}; allowed is 0 and above.")
        self.epoch = int(epoch)

    def __len__(self) -> int:
        if self.count is not None:
            return self.count
        return -(-self.length // self.world) if self.pad else self.length // self.world

    def __iter__(self) -> Iterator[tuple[int, int]]:
        if self.count is not None:
            joined = self.count * self.world
            stretch = self.stretch(self.epoch * joined, joined)
            return iter(stretch[self.rank :: self.world])
        epoch = self.epoch
        order = self._order(epoch)
        dealt = len(self) * self.world
        order = (order * -(-dealt // self.length))[:dealt][self.rank :: self.world]
        return iter([(epoch, index) for index in order])

    def stretch(self, start: int, count: int) -> list[tuple[int, int]]:
        """Return ``count`` items of the endless order from place ``start``: number of the permutation and index."""
        first, last = start // self.length, (start + count - 1) // self.length
        endless = [(turn, index) for turn in range(first, last + 1) for index in self._order(turn)]
        begin = start - first * self.length
        return endless[begin : begin + count]

    def _order(self, turn: int) -> list[int]:
        if not self.shuffle:
            return list(range(self.length))
        generator = torch.Generator().manual_seed(derived_seed(self.seed, turn))
        return torch.randperm(self.length, generator=generator).tolist()


class ViewDataset(Dataset):
    """Items that are loaded once and augmented anew in every epoch.

    What an item looks like depends on its index, the epoch and the seed alone: not on the number of
    workers, nor on what was read before. A run that is resumed sees the images it would have seen.

    Args:
        data: items, usually of `train_validation`.
        transform: deterministic loading chain; its results are cached in memory.
        augment: chain of random transforms (MONAI ``Randomizable``), run on a copy of the cached item.
        seed: seed of the augmentation.
        cache_rate: share of the items to cache, from 0 (none) to 1.
        progress: show a progress bar while the cache is filled.
        features: feature store that every item's ``targets`` are read from; None where the teachers run online. While it is
            read, `RandGeometryd` is left out: stored maps exist for the fixed views only.
        soft_masks: what teachers said of images, read into ``soft_mask`` and kept in memory in 8 bits; an item without a label
            must have one. The augmentation moves it with its image and uses it in `MixSoftMaskd`. None for none.

    Raises:
        ValueError: no items, a rate outside [0, 1], or a random transform in the cached chain.
        StoreError: a geometric augmentation whose views are not stored.
        SoftMaskError: an augmentation that does not move the soft masks, or does not use them.
        ItemError: a file fails; names its image and label, now (while caching) or when the item is read.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Callable | Sequence[Callable],
        augment: Callable | Sequence[Callable] | None = None,
        seed: int = 0,
        cache_rate: float = 1.0,
        progress: bool = True,
        features: FeatureStore | None = None,
        soft_masks: AnySoftMasks | None = None,
    ) -> None:
        if not len(data):
            raise ValueError(
                "the data set has no items. Check dataset_dir and the split into training and validation."
            )
        if not 0 <= cache_rate <= 1:
            raise ValueError(f"cache_rate is {cache_rate}; allowed is 0 (no cache) to 1 (all items).")
        self.data = list(data)
        self.transform = _compose(transform)
        self.augment = None if augment is None else _compose(augment)
        self.seed = int(seed)
        random = [
            type(t).__name__ for t in self.transform.flatten().transforms if isinstance(t, RandomizableTrait)
        ]
        if random:
            raise ValueError(
                f"the cached chain holds random transforms ({', '.join(random)}), whose first result would "
                "be repeated for ever. Move them to augment."
            )
        self.soft_masks = soft_masks
        if soft_masks is not None:
            check_soft_mask_chain(self.augment)
            self.transform = with_soft_masks(self.transform, soft_masks)
        # an item that stands in the list many times, each time to be augmented anew, is loaded once
        first: dict[Hashable, int] = {}
        self._place = [first.setdefault(_identity(item), len(first)) for item in self.data]
        different = [self.data[self._place.index(number)] for number in range(len(first))]
        self._loaded = _NamedCache(
            different, self.transform, cache_rate=cache_rate, num_workers=1, progress=progress
        )
        self.features = features
        self.keys: list[str] = []
        self._augment_stored = self.augment
        if features is not None:
            check_augmentation(self.augment, features.policy)
            self._augment_stored = None if self.augment is None else stored_chain(self.augment)
            if any(isinstance(step, RandGeometryd) and step.moves for step in flattened(self.augment)):
                logger.info(
                    "Free geometry (rotate, scale, shift, shear, elastic) rests in phases that read stored maps."
                )
            self.keys = image_keys(self.data, progress)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        """Return one item.

        Args:
            index: ``(epoch, index)`` as `EpochSampler` yields it, or an index alone for epoch 0.
        """
        epoch, index = index if isinstance(index, (tuple, list)) else (0, index)
        epoch, index = int(epoch), int(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is outside the data set of {len(self)} items.")
        index %= len(self)
        # MONAI copies a cached item only ahead of a random transform in the same chain; here there is none
        item = _copied(self._loaded[self._place[index]])
        reads = self.features is not None and self.features.active
        augment = self._augment_stored if reads else self.augment
        if augment is not None and self.augment is not None:
            # the whole chain is seeded: what rests in it must not change what the others draw
            reseed(self.augment, derived_seed(self.seed, epoch, index))
            try:
                item = augment(item)
            except Exception as error:
                raise _named(error, self.data[index], "augmented") from error
        return self._with_targets(item, index) if reads else item

    @property
    def labelled(self) -> int:
        """Number of items that have a mask drawn by a person."""
        return sum(bool(item.get("label")) for item in self.data)

    def _with_targets(self, item: dict[str, Any], index: int) -> dict[str, Any]:
        assert self.features is not None
        key, view = self.keys[index], int(item.get("view", 0))
        maps = self.features.read(key, view)
        self.features.check_picture(item["teacher_image"], maps.pop(PICTURE), key, view)
        item["targets"] = maps
        return item

    @property
    def views(self) -> tuple[int, ...]:
        """The views that the augmentation draws among; view 0 alone where it draws none."""
        drawn = [t for t in flattened(self.augment) if isinstance(t, RandViewd)]
        views = {view for transform in drawn for view in transform.views}
        # below probability 1 an item keeps its first view now and then
        return tuple(sorted(views | {0} if any(t.prob < 1 for t in drawn) else views or {0}))

    def teacher_images(self, index: int, views: Sequence[int]) -> list[torch.Tensor]:
        """Return what the teachers see of an item in each view, ``(3, H, W)`` in [0, 1], and load it once."""
        item = self._loaded[self._place[index]]
        return [teacher_chain(self.augment, view)(deepcopy(item))["teacher_image"] for view in views]

    def check_features(self) -> None:
        """Refuse a store that lacks an image or a view of this data set; does nothing without a store.

        Raises:
            StoreError: says which image, view or shard.
        """
        if self.features is None:
            return
        check_augmentation(self.augment, self.features.policy, self.features.views)
        names = {key: image_name(item) for key, item in zip(self.keys, self.data, strict=True)}
        self.features.check_items(names, allowed_views(self.views, self.features.image_size))


class _NamedCache(CacheDataset):
    """MONAI's cache, with errors that say which files they are about."""

    def _load_cache_item(self, idx: int) -> Any:
        try:
            return super()._load_cache_item(idx)
        except Exception as error:
            raise _named(error, self.data[idx], "loaded") from error

    def _transform(self, index: int) -> Any:
        try:
            return super()._transform(index)
        except Exception as error:
            raise _named(error, self.data[index], "loaded") from error


def _copied(item: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of an item that may be changed in place."""
    # copying a tensor as such takes a fraction of what `deepcopy` does
    return {k: v.clone() if type(v) is torch.Tensor else deepcopy(v) for k, v in item.items()}


def _compose(transform: Callable | Sequence[Callable]) -> Compose:
    return transform if isinstance(transform, Compose) else Compose(transform)


def _identity(item: Mapping[str, Any]) -> Hashable:
    """What two items share that load the same; an item that holds more than texts and numbers is alone."""
    plain = all(isinstance(value, (str, int)) for value in item.values())
    return tuple(sorted(item.items())) if plain else id(item)


def _named(error: Exception, item: Mapping[str, Any], action: str) -> ItemError:
    """An error with the item's files and the original reason, which MONAI hides below its own errors."""
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    files = ", ".join(f"{key} {item[key]}" for key in ("image", "label") if key in item) or str(item)[:200]
    # what a check of this package says is clear; what a decoder says is not
    damaged = action == "loaded" and not isinstance(root, ValueError)
    advice = (
        " The file may be damaged: check_data lists every such file before the training starts."
        if damaged
        else ""
    )
    return ItemError(f"an item cannot be {action} ({files}): {type(root).__name__}: {root}{advice}")
