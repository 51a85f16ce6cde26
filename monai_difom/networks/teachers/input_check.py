"""Whether a teacher sees what it was trained with: the statistics of its first layers beside those that it remembers."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from .base import Teacher

_BatchNorm = nn.modules.batchnorm._BatchNorm
_LAYERS = 3  # farther in, every layer adapts what comes in, and right and wrong look alike
# variance of an ImageNet image in [0, 1], over its channels
_CONTRAST = 0.226**2
# measured with EfficientNet-Lite2 on endoscopy, fundus and fluorescence images at 128 and 256 px (docs/teachers.md): the right
# input gives shifts up to 0.54, spreads of -0.84 to 0.11; ImageNet's mean 2.5 and more; no normalisation spreads of -1.6 and less
_SHIFT, _NARROW, _WIDE = 1.0, -1.25, 2.0


@torch.no_grad()
def input_mismatch(teacher: Teacher, images: torch.Tensor) -> str | None:
    """Return in a sentence, with figures, that images do not arrive as a teacher's batch norm remembers them from its training.

    Two figures are taken: the squared shift of the batch's mean from the running mean, in variances, over the first three batch
    norms; and the log of the batch's variance over the running one at the first, less that of the images' own contrast.

    Args:
        teacher: any teacher.
        images: real images ``(B, 3, H, W)`` in [0, 1]; a few are enough.

    Returns:
        None where they agree, and where nothing can be said: of volumes, a network without batch norm, or one whose statistics
        were folded into its weights.
    """
    layers = [m for m in teacher.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    layers = layers[:_LAYERS]
    if images.ndim != 4 or not layers or all(_is_folded(layer) for layer in layers):
        return None
    found: dict[nn.Module, tuple[float, float]] = {}

    def measure(layer: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        mean, variance, live = layer.running_mean, layer.running_var, layer.running_var > 1e-3
        axes = [axis for axis in range(inputs[0].ndim) if axis != 1]
        if live.any():
            shift = (inputs[0].mean(axes) - mean)[live].square() / variance[live]
            spread = (inputs[0].var(axes, unbiased=False)[live] + layer.eps).log() - variance[live].log()
            found.setdefault(layer, (float(shift.mean()), float(spread.median())))

    handles = [layer.register_forward_pre_hook(measure) for layer in layers]
    try:
        teacher(images)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        return None
    contrast = float(images.var([0, 2, 3], unbiased=False).mean().clamp_min(1e-6) / _CONTRAST)
    shift = sum(value for value, _ in found.values()) / len(found)
    spread = next(iter(found.values()))[1] - math.log(contrast)
    if shift <= _SHIFT and _NARROW <= spread <= _WIDE:
        return None
    seen, low, high = (math.exp(value) for value in (spread, _NARROW, _WIDE))
    return (
        f"its first layers do not see what they saw in training: means are off by {shift:.2g} variances (right: below "
        f"{_SHIFT:g}), variances are {seen:.2g} of those remembered (right: {low:.2g} to {high:.2g}). Mean and std are probably "
        f"those of other weights: {teacher.contract}."
    )


def _is_folded(layer: Any) -> bool:
    """Return whether a batch norm's statistics say nothing: zeros and ones, as of a network that was folded or never trained."""
    return not layer.running_mean.any() and bool((layer.running_var - 1).abs().max() < 1e-2)
