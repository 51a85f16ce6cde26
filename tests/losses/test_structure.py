"""PraNet's structure loss, as its paper describes it and as its code computes it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monai_difom.losses import StructureLoss
from monai_difom.losses.structure import _window_mean
from tests.testers import LossTester


class StructureLossTester(LossTester):
    shape = (3, 1, 12, 10)
    detaches = False  # the target is a mask from a file
    arguments: dict[str, Any] = {}

    def make(self, **changes: Any) -> nn.Module:
        return StructureLoss(**{"kernel_size": 5, **self.arguments, **changes})

    def pair(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(self.shape), (torch.rand(self.shape) > 0.6).float()

    def equal(self) -> tuple[torch.Tensor, torch.Tensor]:
        mask = self.pair()[1]
        return (mask - 0.5) * 80, mask


class TestAsThePaperDescribes(StructureLossTester):
    pass


class TestAsThePublishedCodeComputes(StructureLossTester):
    arguments = {"pixel_weighted_bce": False}


class TestVolumesOfTwoClasses(StructureLossTester):
    shape = (3, 2, 4, 6, 5)


def _published(pred: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """``structure_loss`` of PraNet's MyTrain.py, line by line."""
    weit = 1 + 5 * torch.abs(F.avg_pool2d(mask, kernel_size=31, stride=1, padding=15) - mask)
    # its reduce='none' is torch's old flag "reduce", a string that is true: the mean over the batch
    wbce = F.binary_cross_entropy_with_logits(pred, mask, reduction="mean")
    wbce = (weit * wbce).sum(dim=(2, 3)) / weit.sum(dim=(2, 3))
    pred = torch.sigmoid(pred)
    inter = ((pred * mask) * weit).sum(dim=(2, 3))
    union = ((pred + mask) * weit).sum(dim=(2, 3))
    wiou = 1 - (inter + 1) / (union - inter + 1)
    return (wbce + wiou).mean()


def _blob() -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.zeros(2, 1, 40, 48)
    mask[0, :, 10:22, 14:30] = 1
    mask[1, :, 30:, :20] = 1
    return torch.randn(2, 1, 40, 48, generator=torch.Generator().manual_seed(0)), mask


def test_without_pixel_weights_it_equals_the_published_code() -> None:
    logits, mask = _blob()
    found = StructureLoss(pixel_weighted_bce=False)(logits, mask)
    torch.testing.assert_close(found, _published(logits, mask))


def test_torch_still_reads_the_published_reduce_flag_as_the_mean() -> None:
    logits, mask = _blob()
    with pytest.warns(UserWarning, match="deprecated"):
        found = F.binary_cross_entropy_with_logits(logits, mask, reduce="none")  # type: ignore[arg-type]
    torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(logits, mask))


def test_in_the_published_code_the_bce_does_not_see_the_edges() -> None:
    logits, mask = _blob()
    edges = [StructureLoss(pixel_weighted_bce=False, edge_weight=weight)(logits, mask) for weight in (0, 5)]
    flat = F.binary_cross_entropy_with_logits(logits, mask)
    torch.testing.assert_close(edges[0], flat + _iou_part(logits, mask, 0))
    torch.testing.assert_close(edges[1], flat + _iou_part(logits, mask, 5))


def _iou_part(logits: torch.Tensor, mask: torch.Tensor, edge_weight: float) -> torch.Tensor:
    weight = 1 + edge_weight * (F.avg_pool2d(mask, 31, 1, 15) - mask).abs()
    p = logits.sigmoid()
    both, all_ = (weight * p * mask).sum((2, 3)), (weight * (p + mask)).sum((2, 3))
    return (1 - (both + 1) / (all_ - both + 1)).mean()


def test_with_pixel_weights_an_error_at_the_edge_costs_more_than_one_far_from_it() -> None:
    mask = _blob()[1][:1]
    right = (mask - 0.5) * 20
    at_edge, far = right.clone(), right.clone()
    at_edge[..., 9, 20] *= -1
    far[..., 38, 46] *= -1
    paper, code = StructureLoss(), StructureLoss(pixel_weighted_bce=False)
    bce_gap = (paper(at_edge, mask) - paper(far, mask)) - (code(at_edge, mask) - code(far, mask))
    assert bce_gap > 1e-3


def test_the_window_of_a_volume_is_a_cube_with_zeros_around_the_volume() -> None:
    mask = (torch.rand(1, 1, 6, 7, 8, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    expected = F.avg_pool3d(mask, 5, stride=1, padding=2)
    torch.testing.assert_close(_window_mean(mask, 5), expected)


def test_a_volume_may_be_thinner_than_the_window() -> None:
    assert StructureLoss()(torch.zeros(1, 1, 3, 40, 6), torch.ones(1, 1, 3, 40, 6)).isfinite()


def test_the_two_readings_differ() -> None:
    logits, mask = _blob()
    difference = StructureLoss()(logits, mask) - StructureLoss(pixel_weighted_bce=False)(logits, mask)
    assert abs(float(difference)) > 1e-3


def test_one_pixel_gives_what_a_hand_computes() -> None:
    weight = 1 + 5 * (1 - 1 / 9)  # the window of 3x3 holds eight padded zeros
    iou = (0.5 * weight + 1) / (1.5 * weight - 0.5 * weight + 1)
    found = StructureLoss(kernel_size=3)(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
    assert float(found) == pytest.approx(math.log(2) + 1 - iou, rel=1e-6)


@pytest.mark.parametrize("pixel_weighted", [True, False])
@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("logit", [-100.0, 0.0, 100.0])
def test_an_empty_or_full_mask_gives_a_finite_loss_and_gradient(
    pixel_weighted: bool, value: float, logit: float
) -> None:
    logits = torch.full((1, 1, 8, 8), logit, requires_grad=True)
    loss = StructureLoss(pixel_weighted)(logits, torch.full((1, 1, 8, 8), value))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


@pytest.mark.parametrize("kernel_size", [30, 1, 0])
def test_a_window_without_a_middle_is_refused(kernel_size: int) -> None:
    with pytest.raises(ValueError, match="must be odd and at least 3"):
        StructureLoss(kernel_size=kernel_size)


def test_maps_that_are_neither_2d_nor_3d_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes \(B, C, H, W\) or \(B, C, D, H, W\)"):
        StructureLoss()(torch.zeros(2, 3), torch.zeros(2, 3))
