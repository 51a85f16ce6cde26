"""Distillation of predictions, against the library's divergences and by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monai_difom.losses import LogitDistillationLoss
from tests.testers import LossTester


class TestSoftmax(LossTester):
    def make(self, **changes: Any) -> nn.Module:
        return LogitDistillationLoss("softmax", temperature=2.0, **changes)


class TestSigmoid(LossTester):
    def make(self, **changes: Any) -> nn.Module:
        return LogitDistillationLoss("sigmoid", temperature=2.0, **changes)


class TestOneClass(LossTester):
    shape = (3, 1, 8, 9)

    def make(self, **changes: Any) -> nn.Module:
        return LogitDistillationLoss("sigmoid", **changes)


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 4, 5, generator=generator), 2 * torch.randn(2, 3, 4, 5, generator=generator)


def test_softmax_is_the_tempered_divergence(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    student, teacher = pair
    expected = 9 * F.kl_div((student / 3).log_softmax(1), (teacher / 3).softmax(1), reduction="none").sum(1)
    torch.testing.assert_close(
        LogitDistillationLoss("softmax", 3, reduction="none")(student, teacher), expected
    )


def test_sigmoid_is_the_cross_entropy_less_the_entropy(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    student, teacher = pair
    p = teacher.sigmoid()
    entropy = F.binary_cross_entropy(p, p, reduction="none")
    expected = (F.binary_cross_entropy_with_logits(student, p, reduction="none") - entropy).mean()
    torch.testing.assert_close(LogitDistillationLoss("sigmoid")(student, teacher), expected)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_large_logits_stay_finite(kind: str) -> None:
    student = torch.tensor([100.0, -100.0]).view(1, 2, 1, 1).requires_grad_()
    value = LogitDistillationLoss(kind)(student, -student.detach())
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_only_confident_positions_count(kind: str) -> None:
    teacher = torch.tensor([[0.1, 5.0], [-0.1, -5.0]]).view(1, 2, 1, 2)
    student = torch.zeros_like(teacher)
    gated = LogitDistillationLoss(kind, min_confidence=0.9)
    torch.testing.assert_close(
        gated(student, teacher), LogitDistillationLoss(kind)(student[..., 1:], teacher[..., 1:])
    )
    assert (
        float(LogitDistillationLoss(kind, min_confidence=0.9, reduction="none")(student, teacher)[0, 0, 0])
        == 0
    )
    shut = gated(student.requires_grad_(), 0.01 * teacher)
    assert float(shut) == 0
    shut.backward()


def test_what_makes_no_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="kind is 'kl'"):
        LogitDistillationLoss("kl")
    with pytest.raises(ValueError, match="temperature is 0"):
        LogitDistillationLoss(temperature=0)
    with pytest.raises(ValueError, match="at least two classes"):
        LogitDistillationLoss("softmax")(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
