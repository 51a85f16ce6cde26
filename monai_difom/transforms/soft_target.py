"""The mask that a student is trained on: drawn by a person, said by a teacher, or a mix of both."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import MapTransform

from ..losses import MISSING

#: of an item whose soft mask says nothing of some structures: those that it speaks of, boolean ``(K,)``
SAID_KEY = "soft_said"


def mix_soft_mask(
    label: torch.Tensor | None,
    soft_mask: torch.Tensor | None,
    trust: float = 0.5,
    said: torch.Tensor | None = None,
) -> torch.Tensor | None:
    """Return ``(1 - trust) * label + trust * soft_mask``, or the one that is there; None without either.

    Args:
        label: drawn mask ``(K, *spatial)`` of 0 and 1; channels of `MISSING` were drawn by nobody, and are the soft mask's.
        soft_mask: 8-bit probability of the same shape, 255 is 1.
        trust: share of the soft mask where there are both, in [0, 1].
        said: boolean ``(K,)``, of which structures the soft mask speaks; None for all.

    Returns:
        ``(K, *spatial)``, float32 in [0, 1], and `MISSING` in channels that neither says anything of.

    Raises:
        ValueError: the shapes differ.
    """
    if soft_mask is None:
        return None if label is None else label.float()
    soft = soft_mask.float().div_(255)
    unsaid = torch.zeros(len(soft), dtype=torch.bool) if said is None else ~said
    if label is None:
        soft[unsaid] = MISSING
        return soft
    if label.shape != soft.shape:
        raise ValueError(
            f"the drawn mask is {tuple(label.shape)}, the soft mask {tuple(soft.shape)} (channels, height, width): both need "
            "one channel for each structure."
        )
    drawn = label.float()
    nobody = (drawn == MISSING).flatten(1).all(1)
    mixed = torch.lerp(drawn, soft, float(trust))
    mixed[nobody] = soft[nobody]
    mixed[unsaid] = drawn[unsaid]
    return mixed


class MixSoftMaskd(MapTransform):
    """Write the mask to train on under ``label``, and drop the soft mask; put it behind all geometry.

    An image with a drawn mask and a soft one gets a mix, see `mix_soft_mask`. An image with neither gets masks of `MISSING`,
    which the training passes over in the mask loss, so that feature terms can use it beside images with masks.

    Args:
        channels: number of structures, for images with neither; None leaves those without a label.
        trust: share of the soft mask in the mix, in [0, 1]; 0 leaves drawn masks as they are.
        image_key: key of the image, whose size a missing mask takes.
        label_key: key of the drawn mask, of 0 and 1.
        soft_key: key of the soft mask, 8 bits.

    Raises:
        ValueError: a trust outside [0, 1], no channels, or masks of different shapes.
    """

    def __init__(
        self,
        channels: int | None = None,
        trust: float = 0.5,
        image_key: str = "image",
        label_key: str = "label",
        soft_key: str = "soft_mask",
    ) -> None:
        super().__init__([label_key, soft_key], allow_missing_keys=True)
        if not 0 <= trust <= 1:
            raise ValueError(f"trust is {trust}; allowed is 0 (drawn masks alone) to 1 (soft masks alone).")
        if channels is not None and channels < 1:
            raise ValueError(f"channels is {channels}; a mask has at least one.")
        self.channels, self.trust = channels, float(trust)
        self.image_key, self.label_key, self.soft_key = image_key, label_key, soft_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with one mask, float32."""
        d = dict(data)
        said = d.pop(SAID_KEY, None)
        label = mix_soft_mask(d.get(self.label_key), d.pop(self.soft_key, None), self.trust, said)
        if label is None and self.channels is not None:
            image = d[self.image_key]
            label = image.new_full((self.channels, *image.shape[1:]), MISSING, dtype=torch.float32)
        if label is not None:
            d[self.label_key] = label
        return d
