"""Frequency bands: they add up, and what belongs to a band is found in it."""

from __future__ import annotations

import math

import pytest
import torch

from monai_difom.utils import check_bands, radial_low_pass, split_bands
from tests.testers import band_energy

SIZES = [(8, 8), (7, 9), (6, 11), (4, 6, 8), (5, 4, 7)]


def _waves(size: int, cycles: int, axis: int) -> torch.Tensor:
    """A unit sinusoid of so many cycles over a square map."""
    line = torch.sin(2 * math.pi * cycles * torch.arange(size) / size)
    return (line[:, None] if axis == 0 else line[None, :]).expand(1, 1, size, size)


def _random(*size: int) -> torch.Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", ["smooth", "ideal"])
@pytest.mark.parametrize("size", SIZES)
def test_low_and_high_add_up_to_the_input(size: tuple[int, ...], shape: str) -> None:
    maps = _random(*size)
    low, high = split_bands(maps, 0.2, shape=shape)
    torch.testing.assert_close(low + high, maps)
    assert low.abs().max() > 0.01
    assert high.abs().max() > 0.01


@pytest.mark.parametrize("size", SIZES)
def test_the_ideal_split_is_a_projection(size: tuple[int, ...]) -> None:
    low, high = split_bands(_random(*size), 0.3, shape="ideal")
    torch.testing.assert_close(split_bands(low, 0.3, shape="ideal")[0], low)
    # a mask that is not Hermitian leaks between the bands when the imaginary part is dropped
    assert split_bands(high, 0.3, shape="ideal")[0].abs().max() < 1e-5


@pytest.mark.parametrize("shape", ["smooth", "ideal"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("cycles", "band"), [(1, "low"), (4, "low"), (9, "high"), (15, "high")])
def test_a_sinusoid_falls_into_its_band(cycles: int, band: str, axis: int, shape: str) -> None:
    # cutoff 0.2 on 32 pixels is 6.4 cycles, the slope reaches from 4.8 to 8
    share = band_energy(_waves(32, cycles, axis), 0.2, shape=shape)
    assert share[band] > 0.95
    assert share["high" if band == "low" else "low"] < 0.05


def test_the_cutoff_is_radial_and_not_square() -> None:
    diagonal = _waves(32, 5, 0) * _waves(32, 5, 1)  # 5 cycles along each axis, 7.07 along the diagonal
    assert band_energy(diagonal, 0.2, shape="ideal")["high"] > 0.95


@pytest.mark.parametrize("cutoff", [0.01, 0.2, 0.5])
def test_a_constant_has_no_high_band_however_low_the_cutoff(cutoff: float) -> None:
    _, high = split_bands(torch.full((1, 2, 9, 12), 3.7), cutoff)
    assert high.abs().max() < 1e-5


def test_the_gain_is_one_half_at_the_cutoff_and_falls_over_the_transition() -> None:
    gain = radial_low_pass((1, 80), cutoff=0.25, transition=0.1)[0]  # bins are 1/80 apart
    assert float(gain[20]) == pytest.approx(0.5, abs=1e-6)
    assert float(gain[16]) == pytest.approx(1, abs=1e-6)
    assert float(gain[24]) == pytest.approx(0, abs=1e-6)
    assert bool((gain.diff() <= 1e-7).all())


@pytest.mark.parametrize(
    ("size", "cutoff", "message"),
    [
        ((4, 4), 0.2, r"the low band is empty on a 4x4 grid with cutoff 0.2 .* from 0.250 to 0.707"),
        ((3, 3), 0.5, r"the high band is empty on a 3x3 grid with cutoff 0.5 .* from 0.333 to 0.471"),
        ((3, 4, 4), 0.1, r"the low band is empty on a 3x4x4 grid .* from 0.250"),
    ],
)
def test_an_empty_band_is_refused_with_the_frequencies_of_the_grid(
    size: tuple[int, ...], cutoff: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_bands(size, cutoff)


@pytest.mark.parametrize("shape", ["smooth", "ideal"])
@pytest.mark.parametrize("size", SIZES)
def test_what_the_check_lets_pass_has_something_in_both_bands(size: tuple[int, ...], shape: str) -> None:
    check_bands(size, 0.3, shape=shape)
    share = band_energy(_random(*size), 0.3, shape=shape)
    assert min(share.values()) > 0.01


@pytest.mark.parametrize("cutoff", [0, -0.1, 0.51])
def test_a_cutoff_that_no_grid_has_is_refused(cutoff: float) -> None:
    with pytest.raises(ValueError, match=r"allowed is \(0, 0.5\] cycles per pixel"):
        radial_low_pass((8, 8), cutoff)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"shape": "square"}, "allowed are 'smooth' and 'ideal'"), ({"transition": 0}, "must be above 0")],
)
def test_a_wrong_mask_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        radial_low_pass((8, 8), 0.2, **arguments)


def test_bands_are_real_and_differentiable() -> None:
    maps = torch.randn(1, 1, 5, 6, requires_grad=True)
    low, high = split_bands(maps, 0.2)
    assert not low.is_complex()
    high.pow(2).sum().backward()
    # the split is linear and symmetric: the gradient of |high|^2 is twice the high band of the high band
    torch.testing.assert_close(maps.grad, 2 * split_bands(high.detach(), 0.2)[1])
    assert low.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_half_precision_and_is_computed_in_full(dtype: torch.dtype) -> None:
    maps = _random(8, 8).to(dtype)
    found, expected = split_bands(maps, 0.2), split_bands(maps.float(), 0.2)
    for band, full in zip(found, expected, strict=True):
        assert band.dtype == dtype
        torch.testing.assert_close(band, full.to(dtype))
