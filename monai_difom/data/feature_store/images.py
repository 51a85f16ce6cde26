"""Which image an item is: the digest of its bytes, a name that stays when the data set moves, a small copy of what was seen."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tqdm import tqdm

from ...utils import file_digest

_SIDE = 16


def image_name(item: Mapping[str, Any]) -> str:
    """Return the end of an item's image path, which stays the same when the data set moves."""
    return "/".join(Path(_files(item)[0]).parts[-3:])


def image_keys(items: Sequence[Mapping[str, Any]], progress: bool = False) -> list[str]:
    """Return the digest of every item's image file (of all of them, where an item has several).

    Args:
        items: items with ``image``.
        progress: show a bar.

    Returns:
        The first 32 hexadecimal digits of a SHA-256 over the bytes, one per item.
    """
    with ThreadPoolExecutor(max_workers=4) as pool:
        found = pool.map(image_key, items)
        return list(tqdm(found, "Reading image digests", len(items), disable=not progress, leave=False))


def image_key(item: Mapping[str, Any]) -> str:
    """Return the digest of one item's image file, see `image_keys`."""
    parts = [file_digest(file) for file in _files(item)]
    whole = parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest()
    return whole[:32]


def thumbnail(image: torch.Tensor, spatial_dims: int = 2) -> torch.Tensor:
    """Return ``(..., 3, 16, 16)`` uint8, the mean grey levels of the regions of ``(..., 3, H, W)`` in [0, 1].

    Args:
        image: one image or a batch.
        spatial_dims: 2; or 3, for ``(..., C, 8, 8, 8)`` of volumes ``(..., C, D, H, W)``.
    """
    full = image.float()
    mean = F.adaptive_avg_pool3d(full, 8) if spatial_dims == 3 else F.adaptive_avg_pool2d(full, _SIDE)  # type: ignore[arg-type]
    return (mean * 255).round().to(torch.uint8)


def _files(item: Mapping[str, Any]) -> list[str]:
    image = item["image"]
    return [os.fspath(image)] if isinstance(image, (str, os.PathLike)) else [os.fspath(f) for f in image]
