"""Low and high spatial-frequency bands of feature maps, in two or three dimensions.

Frequencies are radial, in cycles per pixel of the map they are taken on: 0 is the mean, 0.5 the
Nyquist frequency along an axis. Working on the half spectrum of ``rfftn`` keeps the mask Hermitian,
so the inverse is real without dropping an imaginary part (the published square mask is not).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

Shape = Literal["smooth", "ideal"]


def _radial_frequency(size: Sequence[int], device: torch.device | None = None) -> torch.Tensor:
    """Radial frequency of every bin of ``rfftn`` on a grid of this size, in cycles per pixel."""
    axes = [torch.fft.fftfreq(n, device=device) for n in size[:-1]]
    axes.append(torch.fft.rfftfreq(size[-1], device=device))
    return torch.sqrt(sum(axis**2 for axis in torch.meshgrid(*axes, indexing="ij")))  # type: ignore[arg-type]


def radial_low_pass(
    size: Sequence[int],
    cutoff: float,
    transition: float = 0.1,
    shape: Shape = "smooth",
    device: torch.device | None = None,
) -> torch.Tensor:
    """Return the low-pass gain of every ``rfftn`` bin; the high-pass gain is one minus it.

    Args:
        size: spatial size of the map.
        cutoff: radius where the gain is one half, cycles per pixel, in (0, 0.5].
        transition: width of the raised-cosine slope around the cutoff, cycles per pixel. A slope does
            not ring at edges as a hard mask does.
        shape: ``"smooth"``, or ``"ideal"`` for a hard mask (gain 1 up to and including the cutoff).
        device: device of the result.

    Returns:
        ``(*size[:-1], size[-1] // 2 + 1)``, values in [0, 1].

    Raises:
        ValueError: a cutoff outside (0, 0.5], no such shape, or a smooth one without a slope.
    """
    if not 0 < cutoff <= 0.5:
        raise ValueError(f"cutoff is {cutoff}; allowed is (0, 0.5] cycles per pixel (0.5 is Nyquist).")
    if shape not in ("smooth", "ideal"):
        raise ValueError(f"mask shape is {shape!r}; allowed are 'smooth' and 'ideal'.")
    if shape == "smooth" and transition <= 0:
        raise ValueError(
            f"transition is {transition}; it must be above 0 (use shape='ideal' for a hard mask)."
        )
    radius = _radial_frequency(size, device)
    if shape == "ideal":
        return (radius <= cutoff).to(radius.dtype)
    position = ((radius - cutoff) / transition + 0.5).clamp(0, 1)
    gain = 0.5 * (1 + torch.cos(torch.pi * position))
    # the mean of a map always belongs to the low band, however near the cutoff is to zero
    gain[(0,) * len(size)] = 1.0
    return gain


def check_bands(size: Sequence[int], cutoff: float, transition: float = 0.1, shape: Shape = "smooth") -> None:
    """Refuse a split whose low or high band is empty on a grid of this size.

    The mean alone is no low band. A bin counts for a band when its gain there is at least one half.

    Args:
        size: spatial size of the grid.
        cutoff: border of the bands, cycles per pixel of this grid, in (0, 0.5].
        transition: width of the slope, cycles per pixel.
        shape: ``"smooth"`` or ``"ideal"``.

    Raises:
        ValueError: names the grid, the empty band and cutoffs that would work.
    """
    size = tuple(int(n) for n in size)
    gain = radial_low_pass(size, cutoff, transition, shape)
    radius = _radial_frequency(size)
    lowest = 1 / max(size)
    highest = float(radius.max())
    low = bool(((gain >= 0.5) & (radius > 0)).any())
    high = bool((gain <= 0.5).any())
    if not (low and high):
        raise ValueError(
            f"the {'high' if low else 'low'} band is empty on a {'x'.join(map(str, size))} grid with cutoff "
            f"{cutoff} cycles per pixel: its frequencies run from {lowest:.3f} to {highest:.3f}. Choose a "
            "cutoff between them, a larger image, or a tap with a smaller stride."
        )


def split_bands(
    maps: torch.Tensor, cutoff: float, transition: float = 0.1, shape: Shape = "smooth"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Split feature maps into a low and a high band that add up to the input.

    Args:
        maps: ``(B, C, H, W)`` or ``(B, C, D, H, W)``.
        cutoff: radius of the border, cycles per pixel of this grid.
        transition: width of the slope, cycles per pixel.
        shape: ``"smooth"`` or ``"ideal"``.

    Returns:
        ``(low, high)``, both shaped like ``maps``; ``low + high == maps`` to float precision, because the
        high band is the exact complement.
    """
    size = tuple(maps.shape[2:])
    dims = tuple(range(2, maps.ndim))
    full = maps.float()
    gain = radial_low_pass(size, cutoff, transition, shape, maps.device)
    low = torch.fft.irfftn(torch.fft.rfftn(full, dim=dims) * gain, s=size, dim=dims)
    return low.to(maps.dtype), (full - low).to(maps.dtype)
