"""Distillation by bands: each band has its weight, and equal weights are the plain distance."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monai_difom.losses import FrequencyDistillationLoss
from tests.testers import LossTester


class TestFrequency(LossTester):
    def make(self, **changes: Any) -> nn.Module:
        return FrequencyDistillationLoss(0.25, **changes)


class TestFrequencyOfVolumes(LossTester):
    shape = (3, 2, 6, 7, 8)

    def make(self, **changes: Any) -> nn.Module:
        return FrequencyDistillationLoss(0.25, high_weight=3, **changes)


class TestFrequencyByCosine(LossTester):
    def make(self, **changes: Any) -> nn.Module:
        return FrequencyDistillationLoss(0.25, distance="cosine", shape="ideal", **changes)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (4, 6, 5)])
def test_an_ideal_mask_with_equal_weights_is_the_spatial_mse(size: tuple[int, ...]) -> None:
    student, target = torch.randn(2, 3, *size), torch.randn(2, 3, *size)
    loss = FrequencyDistillationLoss(0.25, low_weight=2, high_weight=2, shape="ideal")
    torch.testing.assert_close(loss(student, target), 2 * F.mse_loss(student, target))


@pytest.mark.parametrize("low_weight", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("high_weight", [0.5, 2.0])
@pytest.mark.parametrize("shape", ["smooth", "ideal"])
def test_each_band_counts_by_its_weight(low_weight: float, high_weight: float, shape: str) -> None:
    # the maps differ by a constant 2 (low) and by a wave of amplitude 3 (high; its mean square is 4.5)
    wave = torch.cos(2 * math.pi * 6 * torch.arange(16) / 16).expand(1, 1, 16, 16)
    student = torch.randn(1, 1, 16, 16)
    loss = FrequencyDistillationLoss(0.2, low_weight=low_weight, high_weight=high_weight, shape=shape)
    found = loss(student, student + 2 + 3 * wave)
    assert float(found) == pytest.approx(low_weight * 4 + high_weight * 4.5, rel=1e-4)


@pytest.mark.parametrize(("weights", "blind"), [((1, 0), "high"), ((0, 1), "low")])
def test_a_weight_of_zero_makes_the_loss_blind_to_that_band(weights: tuple, blind: str) -> None:
    wave = torch.cos(2 * math.pi * 7 * torch.arange(16) / 16).expand(1, 1, 16, 16)
    change = wave if blind == "high" else torch.full((1, 1, 16, 16), 5.0)
    student = torch.randn(1, 1, 16, 16, requires_grad=True)
    loss = FrequencyDistillationLoss(0.2, low_weight=weights[0], high_weight=weights[1])
    value = loss(student, student.detach() + change)
    assert float(value) < 1e-10
    value.backward()
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-5


@pytest.mark.parametrize("weights", [(0, 0), (-1, 1), (1, -1)])
def test_weights_that_say_nothing_are_refused(weights: tuple) -> None:
    with pytest.raises(ValueError, match="must be >= 0 and not both 0"):
        FrequencyDistillationLoss(low_weight=weights[0], high_weight=weights[1])


def test_a_grid_on_which_a_band_is_empty_is_refused() -> None:
    with pytest.raises(ValueError, match="the low band is empty on a 4x4 grid"):
        FrequencyDistillationLoss(0.2)(torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4))
