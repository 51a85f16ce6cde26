"""A transfer set: images without masks to distil on, from a folder, from a generator, or from the labelled ones."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    LoadImaged,
    RandAffined,
    RandGaussianNoised,
    ScaleIntensityRanged,
    Transposed,
)
from PIL import Image

from ..transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    NormalizeImaged,
    PictureReader,
    RandPhotometricd,
    RandViewd,
    ResizeImaged,
    SplitTeacherd,
    read_picture_file,
)
from ..utils import unknown_name
from .unlabelled import unlabelled_images

TRANSFER_KINDS = ("folder", "augmentation", "diffusion")


def transfer_of_labelled(items: Sequence[Mapping[str, Any]], count: int) -> list[dict[str, Any]]:
    """Return labelled items without their labels, repeated until there are ``count``.

    A data set augments every entry in its own way: with `strong_augmentation` the repetitions are different images.

    Args:
        items: items of a training list.
        count: length of the transfer set, from 1.

    Raises:
        ValueError: no items, or a count below 1.
    """
    if count < 1 or not items:
        raise ValueError(f"a transfer set of {count} images out of {len(items)}: both must be at least 1.")
    plain = [{key: value for key, value in item.items() if key != "label"} for item in items]
    return [dict(plain[i % len(plain)]) for i in range(count)]


def transfer_items(
    kind: str,
    labelled: Sequence[Mapping[str, Any]],
    folder: str | Path | None = None,
    count: int = 1000,
) -> list[dict[str, Any]]:
    """Return a transfer set by the name of its kind.

    Args:
        kind: ``"folder"`` (images that are there), ``"augmentation"`` (the labelled images, to be strongly augmented), or
            ``"diffusion"`` (images that the run id ``synthesize`` drew into the folder).
        labelled: labelled training items.
        folder: folder of images; not for ``"augmentation"``.
        count: number of images; of a folder the first ``count``, or all where it holds fewer.

    Raises:
        ValueError: an unknown kind, no folder, or fewer drawn images than asked for.
        FileNotFoundError: there is no such folder.
    """
    if kind not in TRANSFER_KINDS:
        raise ValueError(unknown_name("transfer", kind, TRANSFER_KINDS))
    if kind == "augmentation":
        return transfer_of_labelled(labelled, count)
    if not folder:
        raise ValueError(f"transfer is {kind!r}, but no folder is named: give transfer_dir.")
    if kind == "diffusion" and not Path(folder).is_dir():
        raise FileNotFoundError(f"no drawn images at {folder}: run the id synthesize first.")
    items = unlabelled_images(folder, count)
    if kind == "diffusion" and len(items) < count:
        raise ValueError(
            f"{folder} holds {len(items)} of {count} images: run the id synthesize to its end, or lower transfer_count."
        )
    return items


def load_pictures(paths: Sequence[str | os.PathLike], side: int) -> torch.Tensor:
    """Return pictures as 8-bit RGB ``(N, 3, side, side)``, squashed to a square, antialiased.

    Raises:
        ValueError: there are no pictures.
    """
    batch = []
    for path in paths:
        small = Image.fromarray(read_picture_file(path)).resize((side, side), Image.Resampling.BILINEAR)
        batch.append(torch.from_numpy(np.array(small)).permute(2, 0, 1))
    if not batch:
        raise ValueError("there are no images to train on.")
    return torch.stack(batch)


def image_chain(image_size: int | Sequence[int]) -> Compose:
    """Return the deterministic chain of images without masks, at the student's size, 8-bit, ready to cache.

    Args:
        image_size: side or ``(height, width)``.
    """
    return Compose(
        [
            LoadImaged("image", reader=PictureReader("rgb"), dtype=np.uint8),
            EnsureChannelFirstd("image"),
            Transposed("image", indices=[0, 2, 1]),  # MONAI reads pictures on their side
            ResizeImaged("image", image_size),
            EnsureTyped("image", track_meta=False),
        ]
    )


def strong_augmentation(
    rotate: float = 180.0,
    scale: float = 0.4,
    shear: float = 0.2,
    translate: float = 0.15,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Compose:
    """Return a random chain that makes new images of few: turned, scaled, sheared and moved, with other colours and noise.

    Geometry and colours come before the teacher's image is split off, so that the teacher judges the very image. The maps of such
    images cannot be cached.

    Args:
        rotate: largest turn in degrees.
        scale: largest relative change of size.
        shear: largest shear factor.
        translate: largest shift as a share of the side.
        mean: mean of the student's normalisation.
        std: deviation of the student's normalisation.
    """
    colours = RandPhotometricd(
        "image", brightness=0.3, contrast=0.4, saturation=0.5, hue=0.08, gamma=0.4, blur=1.5
    )
    return Compose(
        [
            RandViewd("image"),
            SplitTeacherd(teacher_key=None),
            _RandMoved(rotate, scale, shear, translate),
            colours,
            RandGaussianNoised("image", prob=0.3, std=0.03),
            ScaleIntensityRanged("image", 0.0, 1.0, 0.0, 1.0, clip=True),
            SplitTeacherd(),
            NormalizeImaged("image", mean=mean, std=std),
            EnsureTyped(["image", "teacher_image"], track_meta=False),
        ]
    )


class _RandMoved(RandAffined):
    """MONAI's affine change with a shift in shares of the image's own side."""

    def __init__(self, rotate: float, scale: float, shear: float, translate: float) -> None:
        super().__init__(
            "image",
            prob=0.9,
            rotate_range=np.deg2rad(rotate),
            scale_range=scale,
            shear_range=shear,
            padding_mode="reflection",
            mode="bilinear",
        )
        self.share = translate

    def __call__(self, data: Mapping[Any, Any], lazy: bool | None = None) -> dict[Any, Any]:
        sides = data["image"].shape[1:]
        self.rand_affine.rand_affine_grid.translate_range = [self.share * side for side in sides]
        return super().__call__(data, lazy)
