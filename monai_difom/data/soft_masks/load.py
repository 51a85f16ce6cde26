"""Soft masks in the cached part of a data set: read once, resized like their image, kept in 8 bits."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from monai.transforms import Compose, MapTransform, Randomizable, Transform

from ...transforms import MixSoftMaskd
from .map_folder import MapFolder
from .store import SoftMaskError, SoftMasks

SOFT_KEY = "soft_mask"
_MOVING = ("monai.transforms.spatial", "monai.transforms.croppad")


def with_soft_masks(chain: Compose, masks: SoftMasks | MapFolder) -> Compose:
    """Return a loading chain whose items have ``soft_mask`` beside ``image``: ``(K, H, W)``, 8 bits, 255 is 1.

    An item with a label may lack a soft mask; one without a label must have one.

    Args:
        chain: a chain that loads ``image`` from its path and resizes it, without cropping.
        masks: the soft masks.
    """
    return Compose([_Remember(masks), *chain.transforms, _Read(masks)])


class _Remember(Transform):
    """Keep the path of the image, which its loader replaces by the picture, where there is a soft mask to be read."""

    def __init__(self, masks: SoftMasks | MapFolder) -> None:
        self.masks = masks

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        if "label" not in item or self.masks.has(item["image"]):
            item[SOFT_KEY] = item["image"]
        return item


class _Read(Transform):
    """Read the soft mask of the path that was kept, at the size that the image has now."""

    def __init__(self, masks: SoftMasks | MapFolder) -> None:
        self.masks = masks

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        if SOFT_KEY in item:
            mask = self.masks.read(item[SOFT_KEY])
            size = tuple(item["image"].shape[-2:])
            if tuple(mask.shape[-2:]) != size:
                mask = F.interpolate(mask[None], size, mode="bilinear", align_corners=False, antialias=True)[
                    0
                ]
            item[SOFT_KEY] = (mask * 255).round_().clamp_(0, 255).to(torch.uint8)
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
        keys = getattr(step, "keys", ()) if isinstance(step, MapTransform) else ()
        if moves and "label" in keys and SOFT_KEY not in keys:
            raise SoftMaskError(
                f"{type(step).__name__} changes the label and not the soft mask, which would no longer lie on the image. Give it "
                f"keys: [image, label, {SOFT_KEY}] and allow_missing_keys: true, or train without soft_masks."
            )
    if not any(isinstance(step, MixSoftMaskd) for step in steps):
        raise SoftMaskError(
            "the augmentation never uses the soft masks: put monai_difom.transforms.MixSoftMaskd behind its geometry, or train "
            "without soft_masks."
        )
