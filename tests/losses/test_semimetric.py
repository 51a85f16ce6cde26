"""The mask loss for soft masks: where it is smallest, what it is of drawn masks, and what its gate leaves out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss
from torch import nn

from monai_difom.losses import SemimetricDiceCELoss
from tests.testers import LossTester

TARGETS = (0.0, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999, 1.0)


class SemimetricTester(LossTester):
    shape = (3, 2, 9, 10)
    detaches = False  # the target is a mask from a file
    arguments: dict[str, Any] = {}

    def make(self, **changes: Any) -> nn.Module:
        return SemimetricDiceCELoss(**{**self.arguments, **changes})

    def pair(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(self.shape), torch.rand(self.shape)

    def equal(self) -> tuple[torch.Tensor, torch.Tensor]:
        target = torch.rand(self.shape) * 0.98 + 0.01
        return torch.logit(target), target


class TestDiceAndCrossEntropy(SemimetricTester):
    pass


class TestDiceAlone(SemimetricTester):
    arguments = {"lambda_ce": 0.0}


class TestGated(SemimetricTester):
    arguments = {"min_confidence": 0.8}


class TestVolumes(SemimetricTester):
    shape = (3, 1, 4, 5, 6)


def logits_of(probability: torch.Tensor) -> torch.Tensor:
    return torch.logit(probability.clamp(1e-7, 1 - 1e-7))


@pytest.mark.parametrize("arguments", [{}, {"lambda_ce": 0.0}, {"lambda_dice": 0.0}], ids=str)
@pytest.mark.parametrize("value", TARGETS)
def test_the_loss_is_smallest_where_the_prediction_equals_the_target(value: float, arguments: dict) -> None:
    loss = SemimetricDiceCELoss(**arguments)
    target = torch.full((1, 1, 8, 8), value)
    at_target = float(loss(logits_of(target), target))
    for p in torch.linspace(0, 1, 41).tolist():
        if abs(p - value) > 0.01:
            assert float(loss(logits_of(torch.full_like(target, p)), target)) > at_target, p
    assert at_target == pytest.approx(0, abs=1e-4 if value else 1)


def test_any_pattern_of_soft_values_is_where_descent_ends() -> None:
    torch.manual_seed(0)
    target = torch.rand(2, 1, 6, 6)
    logits = torch.zeros_like(target, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 800)
    for _ in range(800):
        optimizer.zero_grad()
        SemimetricDiceCELoss()(logits, target).backward()
        optimizer.step()
        schedule.step()
    assert float((torch.sigmoid(logits) - target).abs().max()) < 0.01


def test_the_usual_dice_would_not_end_there() -> None:
    # why this loss exists: the usual one prefers 1 to the target itself
    target = torch.full((1, 1, 8, 8), 0.3)
    usual = DiceLoss(sigmoid=True)
    assert usual(torch.full_like(target, 9.0), target) < usual(logits_of(target), target)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_of_drawn_masks_it_is_the_usual_dice_and_cross_entropy(share: float) -> None:
    torch.manual_seed(1)
    logits = torch.randn(3, 1, 16, 16, requires_grad=True)
    mask = (torch.rand(3, 1, 16, 16) < share).float()
    own, usual = SemimetricDiceCELoss()(logits, mask), DiceCELoss(sigmoid=True)(logits, mask)
    torch.testing.assert_close(own, usual)
    gradients = [torch.autograd.grad(value, logits, retain_graph=True)[0] for value in (own, usual)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-7)


def test_a_shut_gate_leaves_unsure_pixels_out_and_keeps_drawn_ones() -> None:
    loss = SemimetricDiceCELoss(min_confidence=0.9)
    target = torch.tensor([0.0, 1.0, 0.95, 0.05, 0.6, 0.4]).reshape(1, 1, 6, 1)
    logits = torch.zeros(1, 1, 6, 1, requires_grad=True)
    loss(logits, target).backward()
    assert (logits.grad.flatten() != 0).tolist() == [True] * 4 + [False] * 2
    drawn = (torch.rand(2, 1, 5, 5) > 0.5).float()
    torch.testing.assert_close(
        loss(torch.ones_like(drawn), drawn), SemimetricDiceCELoss()(torch.ones_like(drawn), drawn)
    )
    nothing = loss(logits, torch.full_like(target, 0.5))
    assert float(nothing) == pytest.approx(0, abs=1e-6)


def test_an_image_that_is_mostly_unsure_counts_for_little() -> None:
    loss = SemimetricDiceCELoss(lambda_dice=0.0, min_confidence=0.9)
    target = torch.full((1, 1, 10, 10), 0.5)
    target[..., :1] = 1.0
    sure = torch.ones_like(target)
    logits = torch.zeros_like(target)
    torch.testing.assert_close(loss(logits, target), loss(logits, sure) / 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"lambda_ce": -1}, "lambda_ce -1"), ({"min_confidence": 1.5}, "min_confidence is 1.5")],
)
def test_numbers_outside_their_range_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SemimetricDiceCELoss(**arguments)


def test_maps_of_different_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"logits .* and mask .* differ"):
        SemimetricDiceCELoss()(torch.zeros(1, 1, 4, 4), torch.zeros(1, 2, 4, 4))
