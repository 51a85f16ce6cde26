"""Resampling of feature maps without aliasing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def resample(maps: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Resample feature maps to a grid that covers the same field of view.

    Shrinking is antialiased: without it, what lies above the Nyquist frequency of the new grid folds
    back and looks like a high band that is not there.

    Args:
        maps: ``(B, C, H, W)`` or ``(B, C, D, H, W)``.
        size: wanted spatial size, one number per spatial dimension.

    Returns:
        ``(B, C, *size)`` in the dtype of ``maps``.

    Raises:
        ValueError: ``size`` has another number of dimensions than the map.
    """
    size = tuple(int(n) for n in size)
    spatial = tuple(maps.shape[2:])
    if len(size) != len(spatial):
        raise ValueError(
            f"cannot resample a {len(spatial)}D map of size {spatial} to {size}: dimensions differ."
        )
    if size == spatial:
        return maps
    if len(spatial) == 2:
        # the antialiased filter has no half precision kernel on the CPU
        full = maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps
        found = F.interpolate(full, size=size, mode="bilinear", align_corners=False, antialias=True)
        return found.to(maps.dtype)
    # torch has no antialiased trilinear filter: average down where the grid shrinks, then interpolate up
    down = tuple(min(new, old) for new, old in zip(size, spatial, strict=True))
    if down != spatial:
        maps = F.adaptive_avg_pool3d(maps, down)  # type: ignore[arg-type]
    return maps if down == size else F.interpolate(maps, size=size, mode="trilinear", align_corners=False)
