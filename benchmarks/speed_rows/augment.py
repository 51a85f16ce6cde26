"""Row `augment_ratio`: a batch of 16 images with masks at 352 px, view, rotation, scale and colour, against torchvision v2.

Both draw anew for every image and change image and mask by one geometry; both work on tensors and end normalised.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import torch
from monai.transforms import Compose
from torchvision import tv_tensors
from torchvision.transforms import v2

from monai_difom.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    NormalizeImaged,
    RandGeometryd,
    RandPhotometricd,
    RandViewd,
    SplitTeacherd,
)
from speed_rows.turns import in_turn, ratio

BATCH, SIZE = 16, 352
KEYS = ("image", "label")


def _our_chain() -> Compose:
    return Compose(
        [
            RandViewd(KEYS),
            RandGeometryd(KEYS, ["bilinear", "nearest"], rotate=180, scale=(0.7, 1.4), shift=0.1),
            SplitTeacherd(teacher_key=None),
            RandPhotometricd("image", 0.25, 0.25, 0.25, 0.05, gamma=0, blur=0, noise=0, prob=1),
            NormalizeImaged("image"),
        ]
    )


def _transposed(x: torch.Tensor) -> torch.Tensor:
    return tv_tensors.wrap(x.transpose(-1, -2).contiguous(), like=x)


def _their_chain() -> v2.Compose:
    turn = v2.RandomApply([v2.Lambda(_transposed)], p=0.5)  # with the flips, the eight views
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            turn,
            v2.RandomAffine(180, (0.1, 0.1), (0.7, 1.4), interpolation=v2.InterpolationMode.BILINEAR),
            v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
            v2.ColorJitter(0.25, 0.25, 0.25, 0.05),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )


def augment(setting: Any) -> dict[str, Any]:
    """Images per second of processor time over those of torchvision v2."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (BATCH, 3, SIZE, SIZE), generator=generator).byte()
    masks = torch.randint(0, 2, (BATCH, 1, SIZE, SIZE), generator=generator).byte()
    ours, theirs = _our_chain(), _their_chain()
    pairs = list(zip(images, masks, strict=True))
    sides = {
        "ours": lambda: [ours({"image": image, "label": mask}) for image, mask in pairs],
        "v2": lambda: [theirs(tv_tensors.Image(image), tv_tensors.Mask(mask)) for image, mask in pairs],
    }
    seconds = in_turn(sides, 2 * setting.rounds)
    speeds = {f"{name}_images_per_second": round(BATCH / median(times), 1) for name, times in seconds.items()}
    return {"augment_ratio": ratio(seconds, "v2", "ours"), **speeds}
