"""From an image file to a tensor: conversion of pixel types and fast antialiased resizing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.config import KeysCollection
from monai.data import MetaTensor, PILReader, get_track_meta
from monai.transforms import InvertibleTransform, MapTransform, TraceableTransform
from monai.transforms.utils import scale_affine
from monai.utils import TraceKeys, convert_to_dst_type, convert_to_tensor, ensure_tuple_rep
from PIL import Image

RESIZE_MODES = ("bilinear", "bicubic", "nearest-exact")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey levels by the range of their type; Pillow's own conversion would clip them at 255."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        levels = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        bits = "32-bit integers" if image.mode == "I" else "32-bit floats"
        raise ValueError(
            f"the image holds {bits} (Pillow mode {image.mode!r}), whose range of grey levels is unknown. "
            "Allowed are "
            "8-bit and 16-bit images: convert the file to one of them."
        )
    return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any 8-bit or 16-bit image to 8-bit RGB, for ``PILReader(converter=to_rgb)``.

    Grey images get three equal channels, transparency is dropped, 16-bit levels are scaled by 255/65535.

    Raises:
        ValueError: the image holds 32-bit values.
    """
    return _to_8_bit(image).convert("RGB")


def to_gray(image: Image.Image) -> Image.Image:
    """Convert a mask to one 8-bit channel, for ``PILReader(converter=to_gray)``.

    One-bit and palette masks are looked up, transparency is dropped, and a colour mask is taken only when its
    channels are equal (a mix of different channels would invent values that are in no channel).

    Raises:
        ValueError: the channels of a colour mask differ, or the mask holds 32-bit values.
    """
    image = _to_8_bit(image)
    if image.mode in ("1", "L", "LA", "P", "PA"):
        return image.convert("L")
    channels = image.convert("RGB").split()
    first = channels[0].tobytes()
    if any(channel.tobytes() != first for channel in channels[1:]):
        raise ValueError(
            f"the mask is a colour image (Pillow mode {image.mode!r}) whose channels differ. Allowed is "
            "one grey "
            "channel, or equal channels: save the mask as an 8-bit grey PNG."
        )
    return channels[0]


class PictureReader(PILReader):
    """Read pictures as 8-bit RGB or grey for ``LoadImaged(reader=...)``, and stop at a file that cannot be read.

    When a reader's ``read`` fails, MONAI goes on to its default readers, which load what `to_rgb` or
    `to_gray` has refused, unconverted. Here the file is opened in ``get_data``, whose errors MONAI passes on.

    Args:
        mode: ``"rgb"`` for images (`to_rgb`), ``"gray"`` for masks (`to_gray`).

    Raises:
        ValueError: unknown mode; what `to_rgb` and `to_gray` refuse.
    """

    def __init__(self, mode: str = "rgb") -> None:
        if mode not in ("rgb", "gray"):
            raise ValueError(f"picture mode is {mode!r}; allowed are 'rgb' for images and 'gray' for masks.")
        super().__init__(converter=to_rgb if mode == "rgb" else to_gray)

    def read(self, data: Any, **kwargs: Any) -> Any:
        """Return the file names as they are; `get_data` opens them."""
        return data

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        """Open the files and return ``(array, meta)``: ``(W, H)`` or ``(W, H, 3)``, uint8."""
        return super().get_data(super().read(img))


def _interpolate(image: torch.Tensor, size: Sequence[int], mode: str) -> torch.Tensor:
    """Resize ``(C, H, W)``; 8-bit input gives 8-bit output."""
    if tuple(image.shape[1:]) == tuple(size):
        return image
    options = {} if mode == "nearest-exact" else {"align_corners": False, "antialias": True}
    native = image.dtype in (torch.uint8, torch.float32, torch.float64)
    out = F.interpolate(
        (image if native else image.float())[None],
        size=tuple(size),
        mode=mode,
        **options,  # type: ignore[arg-type]
    )[0]
    return out.to(image.dtype) if image.is_floating_point() else out


class _ResizeImage(InvertibleTransform):
    """Resize one channel-first 2D image and leave a trace from which MONAI can undo it."""

    def __init__(self, spatial_size: Sequence[int] | int) -> None:
        self.spatial_size = tuple(int(n) for n in ensure_tuple_rep(spatial_size, 2))

    def __call__(self, image: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
        image = convert_to_tensor(image, track_meta=get_track_meta())
        if image.ndim != 3:
            raise ValueError(
                f"cannot resize an image of shape {tuple(image.shape)}: allowed is (C, H, W). Put "
                "EnsureChannelFirstd "
                "before this transform; for volumes use MONAI's Resized."
            )
        original = tuple(image.shape[1:])
        trace = TraceableTransform.track_transform_meta(
            image,
            sp_size=self.spatial_size,
            affine=scale_affine(original, self.spatial_size),
            extra_info={"mode": mode, "align_corners": TraceKeys.NONE},
            orig_size=original,
            transform_info=self.get_transform_info(),
            lazy=False,
        )
        plain = image.as_tensor() if isinstance(image, MetaTensor) else image
        out, *_ = convert_to_dst_type(
            resized := _interpolate(plain, self.spatial_size, mode), image, dtype=resized.dtype
        )
        return out.copy_meta_from(trace) if isinstance(out, MetaTensor) else out

    def inverse(self, image: torch.Tensor) -> torch.Tensor:
        trace = self.pop_transform(image)
        mode = str(trace[TraceKeys.EXTRA_INFO]["mode"])
        # Invertd(nearest_interp=True) rewrites the recorded mode to MONAI's "nearest"
        mode = "nearest-exact" if mode.startswith("nearest") else mode
        plain = image.as_tensor() if isinstance(image, MetaTensor) else image
        original = tuple(int(n) for n in trace[TraceKeys.ORIG_SIZE])
        out, *_ = convert_to_dst_type(
            resized := _interpolate(plain, original, mode), image, dtype=resized.dtype
        )
        return out


class ResizeImaged(MapTransform, InvertibleTransform):
    """Resize 2D images with torch's antialiased filter, on 8-bit data without a detour over floats.

    MONAI's ``Resized`` smooths with a Gaussian before it samples, which takes many times longer, and its
    ``nearest`` reads the corner of a pixel instead of its centre, so that masks shift by up to half a pixel.
    Invertible: ``Invertd`` brings a prediction back to the image's own size.

    Args:
        keys: keys of ``(C, H, W)`` tensors.
        spatial_size: ``(height, width)``, or one number for a square.
        mode: ``"bilinear"`` or ``"bicubic"`` (antialiased) for images, ``"nearest-exact"`` for masks; one
            for all keys or one per key.
        allow_missing_keys: do not raise when a key is absent.

    Raises:
        ValueError: unknown mode, or an image that is not ``(C, H, W)``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spatial_size: Sequence[int] | int,
        mode: Sequence[str] | str = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        unknown = sorted(set(self.mode) - set(RESIZE_MODES))
        if unknown:
            raise ValueError(f"resize mode is {unknown[0]!r}; allowed are {', '.join(RESIZE_MODES)}.")
        self.resizer = _ResizeImage(spatial_size)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Return the item with the keys resized, ``(C, *spatial_size)``."""
        d = dict(data)
        for key, mode in self.key_iterator(d, self.mode):
            d[key] = self.resizer(d[key], mode)
        return d

    def inverse(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Return the item with the keys back at the size that they had."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.resizer.inverse(d[key])
        return d
