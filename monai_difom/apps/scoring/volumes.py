"""Predictions on volumes: in windows, and back on the grid of the file."""

from __future__ import annotations

import io
import os
from collections.abc import Callable

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.transforms import Compose, Invertd
from PIL import Image
from torch import nn

from ...utils.probabilities import checked_probabilities


@torch.no_grad()
def predict_volume(
    network: nn.Module,
    image: torch.Tensor,
    chain: Compose,
    inferer: Inferer | Callable,
    device: torch.device | str = "cpu",
) -> torch.Tensor:
    """Return the foreground probability of a volume on the grid that its file has.

    The volume may have been turned, resampled and padded by its chain; all of it is undone, on the smooth probability, so that
    voxel (i, j, k) of the result is voxel (i, j, k) of the file.

    Args:
        network: student, one channel of logits.
        image: ``(C, X, Y, Z)`` as the chain gives it, with its trace.
        chain: the loading chain, whose transforms can be inverted.
        inferer: MONAI inferer, usually `SlidingWindowInferer`.
        device: where the network is.

    Returns:
        ``(X, Y, Z)`` on the CPU.

    Raises:
        ValueError: the network gives more than one channel, or NaN.
    """
    plain = image.as_tensor() if isinstance(image, MetaTensor) else image
    logits = inferer(plain[None].to(device), network)
    if logits.shape[1] != 1:
        raise ValueError(
            f"the network gives {logits.shape[1]} channels; volumes are scored for one structure. Give it out_channels 1."
        )
    probability = checked_probabilities(torch.sigmoid(logits[0].float()).cpu())
    if not isinstance(image, MetaTensor):
        return probability[0]
    back = Invertd(keys="pred", transform=chain, orig_keys="image", nearest_interp=False, to_tensor=True)
    return back({"image": image, "pred": MetaTensor(probability)})["pred"][0].cpu()


def volume_picture(path: str | os.PathLike, place: int, side: int) -> bytes:
    """Return slice ``place`` along the last axis of a NIfTI file as a small JPEG, rows and columns as the array has them."""
    import nibabel

    values = np.asarray(nibabel.load(str(path)).dataobj[..., place], dtype=np.float32)  # type: ignore[attr-defined]
    low, high = np.quantile(values, (0.01, 0.99))
    grey = np.clip((values - low) / max(float(high - low), 1e-6), 0, 1)
    small = Image.fromarray((grey * 255).astype(np.uint8))
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.convert("RGB").save(stream, format="JPEG", quality=82)
    return stream.getvalue()


def fullest_slice(mask: np.ndarray) -> int:
    """Return where, along the last axis, a mask ``(X, Y, Z)`` has most foreground; the middle where it has none."""
    areas = mask.sum((0, 1))
    return int(areas.argmax()) if areas.any() else mask.shape[2] // 2
