"""New images from two: a piece of another image of the batch is put into each, with its mask and its soft mask."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from ..losses import MISSING
from ..utils import unknown_name

KINDS = ("cutmix", "copy_paste")
#: tensors of a batch that a piece is taken of, as far as they are there
MIXED = ("image", "teacher_image", "label")
_AREA, _RATIO = (0.05, 0.4), (0.5, 2.0)


class MixImages:
    """Put a piece of another image of the batch into an image, and the same piece of its mask into its mask.

    - ``cutmix``: a rectangle of 5 to 40 % of the image, sides as 1:2 to 2:1 (Yun et al., ICCV 2019; in segmentation French et
      al., BMVC 2020);
    - ``copy_paste``: the pixels whose mask is at least .5, at their place (Ghiasi et al., CVPR 2021).

    Soft masks move alike: the batch's ``label`` holds the mask to train on, drawn, soft or mixed. The teachers' image is changed
    too, so that teachers that run online see what the student sees. Images with a structure that nobody annotated give and take
    nothing.

    Args:
        kind: ``"cutmix"`` or ``"copy_paste"``.
        prob: probability of each image to be changed, in [0, 1].

    Raises:
        ValueError: no such kind, or a probability outside [0, 1].
    """

    def __init__(self, kind: str = "cutmix", prob: float = 0.5) -> None:
        if kind not in KINDS:
            raise ValueError(unknown_name("mixing", kind, KINDS))
        if not 0 <= prob <= 1:
            raise ValueError(f"mixing_prob is {prob}; allowed is 0 to 1.")
        self.kind, self.prob = kind, float(prob)

    def __call__(self, batch: Mapping[str, Any], generator: torch.Generator) -> dict[str, Any]:
        """Return the batch with pieces exchanged; its own tensors stay as they are.

        Args:
            batch: ``image (B, C, *spatial)``, ``label (B, K, *spatial)``, and what else a training needs. Without a label nothing
                can be cut out by it.
            generator: of the CPU; what is drawn depends on it alone.
        """
        label = batch.get("label")
        if label is None:
            if self.kind == "copy_paste":
                return dict(batch)
            label = torch.zeros_like(batch["image"][:, :1])
        count = len(label)
        # the count of random numbers does not depend on what is in the batch
        chance = torch.rand(count, generator=generator)
        boxes = torch.rand(count, 4, generator=generator)
        if count < 2:
            return dict(batch)
        whole = ~(label == MISSING).flatten(1).any(1).cpu()
        partner = torch.arange(count).roll(1)
        changed = (chance < self.prob) & whole & whole[partner]
        if not changed.any():
            return dict(batch)
        piece = (
            self._boxes(label, boxes)
            if self.kind == "cutmix"
            else (label[partner] >= 0.5).any(1, keepdim=True)
        )
        piece = piece & changed.to(label.device).reshape(-1, *[1] * (label.ndim - 1))
        return {
            key: torch.where(piece.to(value.device), value[partner], value) if key in MIXED else value
            for key, value in batch.items()
        }

    @staticmethod
    def _boxes(label: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
        """A rectangle for each image, in the last two axes: boolean ``(B, 1, ..., H, W)``."""
        height, width = label.shape[-2:]
        piece = torch.zeros(len(label), 1, *[1] * (label.ndim - 4), height, width, dtype=torch.bool)
        for number, (area, ratio, top, left) in enumerate(drawn.tolist()):
            share = _AREA[0] + (_AREA[1] - _AREA[0]) * area
            shape = math.sqrt(_RATIO[0] * (_RATIO[1] / _RATIO[0]) ** ratio)
            rows = min(height, max(1, round(height * math.sqrt(share) * shape)))
            columns = min(width, max(1, round(width * math.sqrt(share) / shape)))
            y, x = round(top * (height - rows)), round(left * (width - columns))
            piece[number, ..., y : y + rows, x : x + columns] = True
        return piece.to(label.device)
