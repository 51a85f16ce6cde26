"""From a file to a tensor: the reader of pictures for MONAI's chains, and fast antialiased resizing."""

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
from monai.utils import TraceKeys, convert_to_dst_type, convert_to_tensor, ensure_tuple, ensure_tuple_rep
from PIL import Image

from .label_file import read_labels, read_mask
from .picture_file import read_picture_file

RESIZE_MODES = ("bilinear", "bicubic", "nearest-exact")
MODES = ("rgb", "gray", "mask", "classes")


class PictureReader(PILReader):
    """Read pictures and masks for ``LoadImaged(reader=...)``, and stop at a file that is not understood.

    When a reader's ``read`` fails, MONAI goes on to its default readers, which load what this package has refused,
    unconverted. Here the file is opened in ``get_data``, whose errors MONAI passes on.

    Args:
        mode: ``"rgb"`` or ``"gray"`` for images, 8 bits (`read_picture_file`); ``"mask"`` for the masks of one structure,
            0 and 1 (`read_mask`); ``"classes"`` for class numbers from 0 to 255 (`read_labels`).
        threshold: of `read_mask`.

    Raises:
        ValueError: unknown mode; what the named functions refuse.
    """

    def __init__(self, mode: str = "rgb", threshold: float | None = None) -> None:
        if mode not in MODES:
            raise ValueError(
                f"picture mode is {mode!r}; allowed are 'rgb' and 'gray' for images, 'mask' and 'classes' for labels."
            )
        super().__init__()
        self.mode, self.threshold = mode, threshold

    def read(self, data: Any, **kwargs: Any) -> Any:
        """Return the file names as they are; `get_data` opens them."""
        return data

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        """Open the files and return ``(array, meta)``: ``(W, H)`` or ``(W, H, 3)``, uint8."""
        return super().get_data([Image.fromarray(self._array(file)) for file in ensure_tuple(img)])

    def _array(self, file: Any) -> np.ndarray:
        if self.mode == "mask":
            return read_mask(file, self.threshold).astype(np.uint8)
        if self.mode != "classes":
            picture = read_picture_file(file, 3 if self.mode == "rgb" else 1)
            return picture if self.mode == "rgb" else picture[..., 0]
        classes = read_labels(file)
        if classes.max() > 255:
            raise ValueError(f"{file}: holds class {classes.max()}; allowed are class numbers from 0 to 255.")
        return classes.astype(np.uint8)


def interpolate(images: torch.Tensor, size: Sequence[int], mode: str = "bilinear") -> torch.Tensor:
    """Resize ``(N, C, H, W)``, antialiased where it shrinks; 8-bit input gives 8-bit output.

    Args:
        images: of any type.
        size: ``(height, width)``.
        mode: of `RESIZE_MODES`.
    """
    if tuple(images.shape[2:]) == tuple(size):
        return images
    options = {} if mode == "nearest-exact" else {"align_corners": False, "antialias": True}
    native = images.dtype in (torch.uint8, torch.float32, torch.float64)
    out = F.interpolate(
        images if native else images.float(),
        size=tuple(size),
        mode=mode,
        **options,  # type: ignore[arg-type]
    )
    return out.to(images.dtype) if images.is_floating_point() else out


class _ResizeImage(InvertibleTransform):
    """Resize one channel-first 2D image and leave a trace from which MONAI can undo it."""

    def __init__(self, spatial_size: Sequence[int] | int) -> None:
        self.spatial_size = tuple(int(n) for n in ensure_tuple_rep(spatial_size, 2))

    def __call__(self, image: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
        image = convert_to_tensor(image, track_meta=get_track_meta())
        if image.ndim != 3:
            raise ValueError(
                f"cannot resize an image of shape {tuple(image.shape)}: allowed is (C, H, W). Put EnsureChannelFirstd "
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
            resized := interpolate(plain[None], self.spatial_size, mode)[0], image, dtype=resized.dtype
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
            resized := interpolate(plain[None], original, mode)[0], image, dtype=resized.dtype
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
