"""The transform chains of the polyp bundle, for use without a bundle."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from monai.transforms import Compose, EnsureChannelFirstd, EnsureTyped, LoadImaged, Transposed

from ..transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MixSoftMaskd,
    NormalizeImaged,
    PictureReader,
    RandGeometryd,
    RandPhotometricd,
    RandViewd,
    ResizeImaged,
    SplitTeacherd,
)
from .checks import BinaryMaskd, CheckPaird, ClassChannelsd
from .structures import LoadStructuresd

PAIR: tuple[Hashable, ...] = ("image", "label")
MOVED: tuple[Hashable, ...] = (*PAIR, "soft_mask")


def _picture_pair(
    mask_threshold: float | None,
    structures: Sequence[str] | None = None,
    classes: int | None = None,
    missing: bool = False,
) -> list:
    """Load an RGB picture and its binary mask, or the masks of its structures, upright, and refuse what does not fit."""
    if structures is not None:
        return [
            LoadImaged("image", reader=PictureReader("rgb"), dtype=np.uint8),
            EnsureChannelFirstd("image"),
            Transposed("image", indices=[0, 2, 1]),
            LoadStructuresd(structures, mask_threshold=mask_threshold),
        ]
    label_reader = PictureReader("classes" if classes else "mask", mask_threshold)
    return [
        LoadImaged("image", reader=PictureReader("rgb"), dtype=np.uint8),
        LoadImaged("label", reader=label_reader, dtype=np.uint8, allow_missing_keys=missing),
        EnsureChannelFirstd(PAIR, allow_missing_keys=missing),
        # MONAI reads pictures on their side; pretrained teachers want them upright
        Transposed(PAIR, indices=[0, 2, 1], allow_missing_keys=missing),
        CheckPaird(),
        ClassChannelsd("label", classes, allow_missing_keys=missing)
        if classes
        else BinaryMaskd("label", mask_threshold, allow_missing_keys=missing),
    ]


def loading_chain(
    image_size: int | Sequence[int],
    mask_threshold: float | None = None,
    structures: Sequence[str] | None = None,
    classes: int | None = None,
) -> Compose:
    """Return the deterministic chain of training: picture and mask at the student's size, 8-bit, ready to cache.

    An item without a label, of an image that is used without its mask, passes without one.

    Args:
        image_size: side or ``(height, width)``.
        mask_threshold: grey value from which a mask pixel is foreground; None refuses grey masks.
        structures: names of many structures, one mask channel each; see `LoadStructuresd`.
        classes: number of classes of masks whose values are class numbers, one mask channel each; see `ClassChannelsd`.
    """
    resize = ResizeImaged(PAIR, image_size, mode=["bilinear", "nearest-exact"], allow_missing_keys=True)
    tensors = EnsureTyped(PAIR, track_meta=False, allow_missing_keys=True)
    return Compose([*_picture_pair(mask_threshold, structures, classes, missing=True), resize, tensors])


def training_augmentation(
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    views: int | Sequence[int] = 8,
    rotate: float = 0.0,
    scale: Sequence[float] = (1.0, 1.0),
    shift: float = 0.0,
    shear: float = 0.0,
    elastic: float = 0.0,
    channels: int | None = None,
    trust: float = 0.5,
) -> Compose:
    """Return the random chain: one geometry for all, then light changes that the teachers do not see.

    Images without a mask go through it as well, and soft masks are mixed with drawn ones behind the geometry.

    Args:
        mean: mean of the student's normalisation.
        std: deviation of the student's normalisation.
        views: dihedral views that are drawn among, see `RandViewd`.
        rotate: largest turn in degrees, and further free geometry, see `RandGeometryd`; none by default.
        scale: smallest and largest factor on the size.
        shift: largest shift as a share of the side.
        shear: largest shear factor.
        elastic: largest bend as a share of the side.
        channels: number of structures, for images without any mask; None leaves those without a label.
        trust: share of the soft mask where an image has a drawn one too, see `MixSoftMaskd`.
    """
    light = RandPhotometricd(
        "image", brightness=0.25, contrast=0.25, saturation=0.3, hue=0.05, gamma=0.3, blur=1.2
    )
    return Compose(
        [
            RandViewd(MOVED, views=views, allow_missing_keys=True),
            RandGeometryd(
                MOVED,
                ["bilinear", "nearest", "bilinear"],
                rotate,
                scale,
                shift,
                shear,
                elastic,
                allow_missing_keys=True,
            ),
            SplitTeacherd(),
            MixSoftMaskd(channels, trust),
            light,
            NormalizeImaged("image", mean=mean, std=std),
        ]
    )


def plain_augmentation(mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> Compose:
    """Return what validation runs in place of `training_augmentation`: nothing random.

    Args:
        mean: mean of the student's normalisation of an image in [0, 1].
        std: deviation of the student's normalisation.
    """
    return Compose([SplitTeacherd(), NormalizeImaged("image", mean=mean, std=std)])


def chain_at_size(chain: Compose, image_size: int | Sequence[int]) -> Compose:
    """Return a chain that gives images of another size: for a teacher that does not see the student's.

    Args:
        chain: a chain with one `ResizeImaged`, as `loading_chain` and `evaluation_chain` return it; it is left as it is.
        image_size: side or ``(height, width)``.

    Raises:
        ValueError: the chain does not resize images, or does it twice.
    """
    steps = list(chain.transforms)
    found = [number for number, step in enumerate(steps) if isinstance(step, ResizeImaged)]
    if len(found) != 1:
        raise ValueError(
            f"the chain has {len(found)} ResizeImaged; for images of another size it needs one, as in loading_chain."
        )
    resize = steps[found[0]]
    steps[found[0]] = ResizeImaged(resize.keys, image_size, resize.mode, resize.allow_missing_keys)
    return Compose(steps)


def evaluation_chain(
    image_size: int | Sequence[int],
    mask_threshold: float | None = None,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    structures: Sequence[str] | None = None,
) -> Compose:
    """Return the chain of an evaluation: the picture at the student's size, the mask at its own.

    Args:
        image_size: side or ``(height, width)`` of the student's input.
        mask_threshold: see `loading_chain`.
        mean: mean of the student's normalisation.
        std: deviation of the student's normalisation.
        structures: see `loading_chain`.
    """
    prepare = [
        ResizeImaged("image", image_size),
        SplitTeacherd(teacher_key=None),
        NormalizeImaged("image", mean=mean, std=std),
    ]
    return Compose([*_picture_pair(mask_threshold, structures), *prepare])
