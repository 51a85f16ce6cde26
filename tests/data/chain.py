"""The loading chain that the configurations use."""

from __future__ import annotations

import numpy as np
from monai.transforms import Compose, EnsureChannelFirstd, EnsureTyped, LoadImaged, Transposed

from monai_difom.data import BinaryMaskd, CheckPaird
from monai_difom.transforms import PictureReader, ResizeImaged


def loading_chain(size: int, threshold: float | None = None) -> Compose:
    keys = ["image", "label"]
    return Compose(
        [
            LoadImaged("image", reader=PictureReader("rgb"), dtype=np.uint8),
            LoadImaged("label", reader=PictureReader("gray"), dtype=np.uint8),
            EnsureChannelFirstd(keys),
            Transposed(keys, indices=[0, 2, 1]),
            CheckPaird(),
            BinaryMaskd("label", threshold),
            ResizeImaged(keys, size, mode=["bilinear", "nearest-exact"]),
            EnsureTyped(keys, track_meta=False),
        ]
    )
