"""The slices of a volume as the images that a 2D student was trained on, and its answer back on the volume."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, TraceableTransform
from monai.utils import TraceKeys, ensure_tuple_rep

from .image import interpolate
from .volume_file import grey_levels, window_of


class _SlicesToImages(InvertibleTransform):
    def __init__(
        self, image_size: Sequence[int] | int, window: Sequence[float] | None, channels: int
    ) -> None:
        self.image_size = tuple(int(n) for n in ensure_tuple_rep(image_size, 2))
        self.window, self.channels = window, channels

    def __call__(self, volume: torch.Tensor) -> torch.Tensor:
        if volume.ndim != 4 or volume.shape[0] != 1:
            raise ValueError(
                f"a volume of shape {tuple(volume.shape)}; allowed is (1, slices, rows, columns). Put Orientationd and "
                "Transposed before this transform."
            )
        values = np.asarray(volume.as_tensor() if isinstance(volume, MetaTensor) else volume)[0]
        levels = torch.from_numpy(grey_levels(values, window_of(values, self.window)))
        pictures = levels[:, None].expand(-1, self.channels, -1, -1).contiguous()
        images = interpolate(pictures, self.image_size).transpose(0, 1)
        if not isinstance(volume, MetaTensor):
            return images
        trace = TraceableTransform.track_transform_meta(
            volume,
            sp_size=(len(values), *self.image_size),
            orig_size=values.shape,
            transform_info=self.get_transform_info(),
            lazy=False,
        )
        return MetaTensor(images, meta=volume.meta).copy_meta_from(trace)

    def inverse(self, maps: torch.Tensor) -> torch.Tensor:
        trace = self.pop_transform(maps)
        size = tuple(int(n) for n in trace[TraceKeys.ORIG_SIZE])[1:]
        plain = maps.as_tensor() if isinstance(maps, MetaTensor) else maps
        back = F.interpolate(plain.float(), size, mode="bilinear", align_corners=False)
        return (
            MetaTensor(back, meta=maps.meta, applied_operations=maps.applied_operations)
            if isinstance(maps, MetaTensor)
            else back
        )


class SlicesToImagesd(MapTransform, InvertibleTransform):
    """Turn a volume, hung for its plane, into a stack of 8-bit images at the student's size: exactly those of the training.

    The same code prepares the slices of the layout ``nifti_slices``. Its inverse brings maps back to the size of the slices.

    Args:
        keys: keys of ``(1, slices, rows, columns)``.
        image_size: side, or height and width.
        window: values that are black and white; None takes quantiles of the volume.
        channels: equal channels of an image.
        allow_missing_keys: do not raise when a key is absent.

    Raises:
        ValueError: another shape.
    """

    def __init__(
        self,
        keys: KeysCollection,
        image_size: Sequence[int] | int,
        window: Sequence[float] | None = None,
        channels: int = 3,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.converter = _SlicesToImages(image_size, window, channels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its volumes as ``(channels, slices, *image_size)``, uint8."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.converter(d[key])
        return d

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its maps ``(K, slices, rows, columns)`` at the size of the slices."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.converter.inverse(d[key])
        return d
