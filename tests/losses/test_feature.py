"""Feature distillation: every distance against numbers computed by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from monai_difom.losses import FeatureDistillationLoss
from tests.testers import LossTester


class FeatureLossTester(LossTester):
    distance: str

    def make(self, **changes: Any) -> nn.Module:
        return FeatureDistillationLoss(self.distance, **changes)


class TestMse(FeatureLossTester):
    distance = "mse"


class TestSmoothL1(FeatureLossTester):
    distance = "smooth_l1"


class TestCosine(FeatureLossTester):
    distance = "cosine"


class TestCosineAndSmoothL1(FeatureLossTester):
    distance = "cosine+smooth_l1"


class TestVolumes(FeatureLossTester):
    distance = "mse"
    shape = (3, 2, 4, 5, 6)


def _vector(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)


@pytest.mark.parametrize(
    ("distance", "student", "target", "expected"),
    [
        ("mse", (1, 2), (0, 0), (1 + 4) / 2),
        ("smooth_l1", (0.5, 3), (0, 0), (0.5 * 0.5**2 + 3 - 0.5) / 2),
        ("cosine", (3, 4), (4, 3), 1 - 24 / 25),
        ("cosine", (1, 0), (0, 7), 1),
        ("cosine", (1, 1), (-2, -2), 2),
        ("cosine+smooth_l1", (3, 4), (4, 3), 0.9 * (1 - 24 / 25) + 0.1 * 0.5),
    ],
)
def test_a_distance_is_what_a_hand_computes(
    distance: str, student: tuple, target: tuple, expected: float
) -> None:
    found = FeatureDistillationLoss(distance)(_vector(*student), _vector(*target))
    assert float(found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("distance", ["mse", "smooth_l1", "cosine", "cosine+smooth_l1"])
def test_without_reduction_there_is_one_value_per_position(distance: str) -> None:
    student, target = torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 5)
    student[1, :, 2, 3], target[1, :, 2, 3] = torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0])
    found = FeatureDistillationLoss(distance, reduction="none")(student, target)
    assert found.shape == (2, 4, 5)
    assert found.nonzero().tolist() == [[1, 2, 3]]


def test_cosine_does_not_see_the_length_of_a_vector() -> None:
    student, target = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    loss = FeatureDistillationLoss("cosine")
    torch.testing.assert_close(loss(5 * student, 0.1 * target), loss(student, target))


def test_cosine_of_a_dead_position_is_finite() -> None:
    student = torch.zeros(1, 4, 2, 2, requires_grad=True)
    value = FeatureDistillationLoss("cosine")(student, torch.randn(1, 4, 2, 2))
    value.backward()
    assert value.isfinite()
    assert student.grad is not None
    assert bool(student.grad.isfinite().all())


def test_small_differences_in_half_precision_are_not_rounded_away() -> None:
    student = torch.full((1, 1, 4, 4), 1e-3, dtype=torch.float16)  # the square is subnormal in half
    value = FeatureDistillationLoss()(student, torch.zeros_like(student))
    assert float(value) == pytest.approx(1e-6, rel=1e-2)


def test_the_target_receives_a_gradient_only_on_request() -> None:
    target = torch.randn(1, 2, 3, 3, requires_grad=True)
    FeatureDistillationLoss(detach_target=False)(torch.randn(1, 2, 3, 3), target).backward()
    assert target.grad is not None


def test_an_unknown_distance_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown distance 'cosin'\. Did you mean 'cosine'\?"):
        FeatureDistillationLoss("cosin")
