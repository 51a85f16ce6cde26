"""Soft masks in the cached part of a data set: read once, moved and resized like their image, kept in 8 bits."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform, Randomizable, Transform

from ...transforms import MixSoftMaskd
from ...transforms.soft_target import SAID_KEY
from .by_structure import SoftMasksByStructure
from .map_folder import MapFolder
from .store import SoftMaskError, SoftMasks

SOFT_KEY = "soft_mask"
AnySoftMasks = SoftMasks | MapFolder | SoftMasksByStructure
_MOVING = ("monai.transforms.spatial", "monai.transforms.croppad")
_ALONE = (
    "{name} changes the image and not the soft mask, which would no longer lie on it. Give it keys: [image, label, soft_mask] "
    "and allow_missing_keys: true, or train without soft_masks."
)


def _keys(step: Any) -> tuple[Hashable, ...]:
    return tuple(step.keys) if isinstance(step, MapTransform) else ()


def with_soft_masks(chain: Compose, masks: AnySoftMasks) -> Compose:
    """Return a loading chain whose items have ``soft_mask`` beside ``image``: ``(K, *spatial)``, 8 bits, 255 is 1.

    An item with a label may lack a soft mask; one without a label must have one. Where it says nothing of some structures (see
    `SoftMasksByStructure`) the item has ``soft_said`` too, boolean ``(K,)``. It is read in front of the first step that has
    ``soft_mask`` among its keys, which then moves it as it moves the image (volumes: orientation, voxel size, margin); in a
    chain without one at the end, at the size that the image has there.

    Args:
        chain: a chain that loads ``image`` from its path and resizes it; without cropping, unless it moves the soft mask too.
        masks: the soft masks.

    Raises:
        SoftMaskError: behind the place where it is read a step moves the image alone.
    """
    steps = list(chain.transforms)
    place = next((n for n, step in enumerate(steps) if SOFT_KEY in _keys(step)), len(steps))
    for step in steps[place:]:
        if type(step).__module__.startswith(_MOVING) and SOFT_KEY not in _keys(step):
            raise SoftMaskError(_ALONE.format(name=type(step).__name__))
    return Compose([_Remember(masks), *steps[:place], _Read(masks), *steps[place:], _Keep()])


class _Remember(Transform):
    """Keep the path of the image, which its loader replaces by the picture, where there is a soft mask to be read."""

    def __init__(self, masks: AnySoftMasks) -> None:
        self.masks = masks

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        if "label" not in item or self.masks.has(item["image"]):
            item[SOFT_KEY] = item["image"]
        return item


class _Read(Transform):
    """Read the soft mask of the path that was kept, at the size that the image has now."""

    def __init__(self, masks: AnySoftMasks) -> None:
        self.masks = masks

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        if SOFT_KEY not in item:
            return item
        path, image = item[SOFT_KEY], item["image"]
        mask = self.masks.read(path)
        size = tuple(image.shape[1:])
        if mask.ndim != image.ndim or (len(size) == 3 and tuple(mask.shape[1:]) != size):
            raise SoftMaskError(
                f"the soft mask of {path} is {tuple(mask.shape[1:])}, its image {size}. A soft mask of a volume is on the grid "
                "of its file: label the volumes again."
            )
        if tuple(mask.shape[1:]) != size:
            mask = F.interpolate(mask[None], size, mode="bilinear", align_corners=False, antialias=True)[0]
        mask *= 255
        said = self.masks.said(path)
        if not all(said):
            item[SAID_KEY] = torch.tensor(said)
        item[SOFT_KEY] = MetaTensor(mask, affine=image.affine) if isinstance(image, MetaTensor) else mask
        return item


class _Keep(Transform):
    """Round the soft mask to the 8 bits that are kept in memory."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        if SOFT_KEY in item:
            mask = torch.as_tensor(item[SOFT_KEY])
            mask = mask.as_tensor() if isinstance(mask, MetaTensor) else mask
            item[SOFT_KEY] = mask.round().clamp(0, 255).to(torch.uint8)
        return item


def check_soft_mask_chain(augment: Compose | None) -> None:
    """Refuse an augmentation that would move an image and not its soft mask, or leave the soft mask unused.

    Raises:
        SoftMaskError: names the transform.
    """
    steps = [] if augment is None else list(augment.flatten().transforms)
    for step in steps:
        module = type(step).__module__
        moves = isinstance(step, Randomizable) or module.startswith(_MOVING)
        if moves and "label" in _keys(step) and SOFT_KEY not in _keys(step):
            raise SoftMaskError(_ALONE.format(name=type(step).__name__))
    if not any(isinstance(step, MixSoftMaskd) for step in steps):
        raise SoftMaskError(
            "the augmentation never uses the soft masks: put monai_difom.transforms.MixSoftMaskd behind its geometry, or train "
            "without soft_masks."
        )
