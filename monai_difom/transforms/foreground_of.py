"""Where the structures are, for transforms that draw windows around them, whoever said it: a person or a teacher."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import MapTransform


class ForegroundOfd(MapTransform):
    """Write a mask of all structures: of the drawn mask, or where there is none of the soft mask from .5 upwards.

    Put it in front of MONAI's ``RandCropByPosNegLabeld`` with ``label_key: foreground``, which then draws windows around the
    structures of images without a drawn mask as well; of images with neither mask anywhere, because nothing is foreground.

    Args:
        label_key: key of the drawn mask ``(K, *spatial)`` of 0 and 1.
        soft_key: key of the soft mask ``(K, *spatial)``, 8 bits, 255 is 1.
        foreground_key: key that is written: ``(1, *spatial)``, uint8, 0 and 1.
        image_key: key of the image, whose size it has.
    """

    def __init__(
        self,
        label_key: str = "label",
        soft_key: str = "soft_mask",
        foreground_key: str = "foreground",
        image_key: str = "image",
    ) -> None:
        super().__init__([label_key, soft_key], allow_missing_keys=True)
        self.label_key, self.soft_key = label_key, soft_key
        self.foreground_key, self.image_key = foreground_key, image_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its foreground."""
        d = dict(data)
        if self.label_key in d:
            found = d[self.label_key] > 0
        elif self.soft_key in d:
            found = d[self.soft_key] >= 128
        else:
            found = torch.zeros_like(d[self.image_key], dtype=torch.bool)
        d[self.foreground_key] = found.any(0, keepdim=True).to(torch.uint8)
        return d
