"""Resampling: the same field of view, and nothing folds back."""

from __future__ import annotations

import math

import pytest
import torch

from monai_difom.utils import resample

SIZES = [
    ((8, 8), (4, 4)),
    ((6, 10), (9, 5)),
    ((8, 8, 8), (4, 4, 4)),
    ((4, 6, 8), (8, 3, 8)),
    ((3, 3), (7, 8)),
]


def test_the_same_size_gives_the_map_itself() -> None:
    maps = torch.rand(1, 2, 5, 6)
    assert resample(maps, (5, 6)) is maps


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_a_constant_stays_constant_on_the_asked_grid(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    found = resample(torch.full((2, 3, *before), 1.5), after)
    assert found.shape == (2, 3, *after)
    torch.testing.assert_close(found, torch.full_like(found, 1.5))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_checkerboard_that_is_halved_turns_grey(dims: int) -> None:
    index = torch.stack(torch.meshgrid(*[torch.arange(12)] * dims, indexing="ij")).sum(0)
    found = resample((index % 2).float()[None, None], [6] * dims)
    inner = found[(..., *[slice(2, -2)] * dims)]  # the border of the filter sees fewer pixels
    torch.testing.assert_close(inner, torch.full_like(inner, 0.5))


def _waves(size: int, cycles: int) -> torch.Tensor:
    return torch.cos(2 * math.pi * cycles * (torch.arange(size) + 0.5) / size).expand(1, 1, size, size)


def test_what_is_above_the_new_nyquist_frequency_vanishes() -> None:
    # 28 cycles on 16 pixels would fold back to 4 cycles at full strength
    assert resample(_waves(64, 28), (16, 16)).pow(2).mean() < 0.01 * _waves(64, 28).pow(2).mean()


def test_what_is_far_below_the_new_nyquist_frequency_stays_in_its_place() -> None:
    torch.testing.assert_close(resample(_waves(64, 1), (16, 16)), _waves(16, 1), atol=0.03, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_the_dtype_is_kept(before: tuple[int, ...], after: tuple[int, ...], dtype: torch.dtype) -> None:
    assert resample(torch.rand(1, 1, *before).to(dtype), after).dtype == dtype


def test_a_gradient_flows_back() -> None:
    maps = torch.rand(1, 1, 8, 8, requires_grad=True)
    resample(maps, (4, 4)).sum().backward()
    assert maps.grad is not None
    assert bool((maps.grad > 0).all())


def test_a_size_of_other_dimensions_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cannot resample a 2D map of size \(8, 8\) to \(4, 4, 4\)"):
        resample(torch.rand(1, 1, 8, 8), (4, 4, 4))
