"""The file of one soft mask: of a picture a PNG, of a volume a NIfTI file on its grid, in 8 bits; or either in float16."""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

DTYPES = ("uint8", "float16")
_HEADER = 352  # bytes of a NIfTI-1 file in front of its values


def suffix_of(dtype: str, axes: int) -> str:
    """Return how the name of a soft mask's file ends.

    Args:
        dtype: one of `DTYPES`.
        axes: 2 of a picture, 3 of a volume.
    """
    if dtype == "float16":
        return ".npy"
    return ".png" if axes == 2 else ".nii.gz"


def mask_bytes(probability: torch.Tensor, dtype: str, affine: np.ndarray | None = None) -> bytes:
    """Return the content of the file of a soft mask.

    Args:
        probability: ``(K, H, W)`` or ``(K, X, Y, Z)`` in [0, 1].
        dtype: one of `DTYPES`.
        affine: ``(4, 4)``, from the voxels of a volume to the body, which viewers lay it over its volume by.
    """
    if dtype == "float16":
        stream = io.BytesIO()
        np.save(stream, probability.to(torch.float16).cpu().numpy())
        return stream.getvalue()
    levels = (probability.float() * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    # a soft mask is smooth: harder compression takes twice the time for a few per cent
    if levels.ndim == 4:
        return gzip.compress(_nifti(levels, affine), compresslevel=1, mtime=0)
    stream = io.BytesIO()
    Image.fromarray(levels.reshape(-1, levels.shape[-1])).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def mask_of(content: bytes, dtype: str, channels: int, size: Sequence[int]) -> torch.Tensor:
    """Return the soft mask ``(K, *size)``, float32 in [0, 1], in the content of a file: the inverse of `mask_bytes`.

    Args:
        content: bytes of the file.
        dtype: as it was written.
        channels: number of structures.
        size: height and width, or the three sides of a volume.

    Raises:
        Exception: of many kinds, where it is no such file.
    """
    if dtype == "float16":
        return torch.from_numpy(np.load(io.BytesIO(content), allow_pickle=False)).float()
    if len(size) == 3:
        return _levels_of(content, channels * math.prod(size)).float() / 255
    with Image.open(io.BytesIO(content)) as picture:
        levels = torch.from_numpy(np.array(picture))
    return levels.unflatten(0, (channels, -1)).float() / 255


def _nifti(levels: np.ndarray, affine: np.ndarray | None) -> bytes:
    """Levels ``(K, X, Y, Z)`` as a NIfTI file of probabilities, many structures along a fourth axis."""
    import nibabel

    values = levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, -1)
    image = nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine)
    image.header.set_slope_inter(1 / 255, 0)
    return image.to_bytes()


def _levels_of(content: bytes, values: int) -> torch.Tensor:
    import nibabel

    with gzip.open(io.BytesIO(content)) as stream:
        # no more than it may hold, whatever a file from elsewhere unpacks to
        image = nibabel.Nifti1Image.from_bytes(stream.read(_HEADER + values + 1))
    levels = np.asarray(image.dataobj.get_unscaled())  # type: ignore[attr-defined]
    return torch.from_numpy(levels[None] if levels.ndim == 3 else np.moveaxis(levels, -1, 0).copy())
