"""One mask loss on several outputs."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss

from monai_difom.losses import DeepSupervision, StructureLoss


@pytest.fixture
def outputs() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 1, 16, 24, generator=generator).requires_grad_() for _ in range(4)]


@pytest.fixture
def mask() -> torch.Tensor:
    mask = torch.zeros(2, 1, 16, 24)
    mask[..., 3:9, 5:17] = 1
    return mask


def test_the_loss_is_the_weighted_sum_over_the_outputs_in_their_order(
    outputs: list[torch.Tensor], mask: torch.Tensor
) -> None:
    loss, weights = StructureLoss(), [1.0, 0.5, 2.0, 0.0]
    expected = sum(weight * loss(output, mask) for weight, output in zip(weights, outputs, strict=True))
    torch.testing.assert_close(DeepSupervision(loss, weights)(outputs, mask), expected)


def test_the_published_losses_of_pranet_and_emcadnet_are_these(
    outputs: list[torch.Tensor], mask: torch.Tensor
) -> None:
    loss = StructureLoss()
    each = sum(loss(output, mask) for output in outputs)
    torch.testing.assert_close(DeepSupervision(loss, [1, 1, 1, 1])(outputs, mask), each)
    both = each + loss(outputs[0] + outputs[1] + outputs[2] + outputs[3], mask)
    torch.testing.assert_close(DeepSupervision(loss, [1, 1, 1, 1], sum_weight=1)(outputs, mask), both)


def test_without_weights_the_loss_has_the_scale_of_one_output(mask: torch.Tensor) -> None:
    output, loss = torch.randn(2, 1, 16, 24), DiceCELoss(sigmoid=True)
    torch.testing.assert_close(DeepSupervision(loss)([output] * 3, mask), loss(output, mask))


def test_one_tensor_is_scored_as_it_is(mask: torch.Tensor) -> None:
    output, loss = torch.randn(2, 1, 16, 24), DiceCELoss(sigmoid=True)
    torch.testing.assert_close(DeepSupervision(loss, [5, 5], 3)(output, mask), loss(output, mask))


def test_a_small_output_meets_the_mask_on_its_own_grid(mask: torch.Tensor) -> None:
    loss = DeepSupervision(torch.nn.L1Loss(), [1.0, 1.0])
    nearest = mask[..., 1::2, 1::2]
    assert float(loss([mask, nearest], mask)) == 0
    soft = DeepSupervision(torch.nn.L1Loss(), [1.0, 1.0], mask_mode="area")
    share = torch.nn.functional.avg_pool2d(mask, 2)
    assert set(share.unique().tolist()) >= {0.0, 0.5, 1.0}
    assert float(soft([mask, share], mask)) == 0


def test_it_equals_that_of_monai_where_monai_has_one(mask: torch.Tensor) -> None:
    outputs = [torch.randn(2, 1, 16 // n, 24 // n) for n in (1, 2, 4)]
    theirs = DeepSupervisionLoss(DiceCELoss(sigmoid=True), weights=[1.0, 0.5, 0.25])
    ours = DeepSupervision(DiceCELoss(sigmoid=True), weights=[1.0, 0.5, 0.25])
    torch.testing.assert_close(ours(outputs, mask), theirs(outputs, mask))


def test_every_output_with_a_weight_receives_a_gradient_and_the_others_none(
    outputs: list[torch.Tensor], mask: torch.Tensor
) -> None:
    DeepSupervision(StructureLoss(), [0, 1, 1, 0])(outputs, mask).backward()
    assert [output.grad is not None for output in outputs] == [False, True, True, False]


def test_what_cannot_be_scored_is_refused(outputs: list[torch.Tensor], mask: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="2 weights for the 4 outputs"):
        DeepSupervision(StructureLoss(), [1, 1])(outputs, mask)
    with pytest.raises(ValueError, match=r"several sizes .* have no sum"):
        DeepSupervision(StructureLoss(), sum_weight=1)([outputs[0], outputs[1][..., ::2, ::2]], mask)
    with pytest.raises(ValueError, match="no output has a weight"):
        DeepSupervision(StructureLoss(), [0, 0, 0, 0])(outputs, mask)
    with pytest.raises(ValueError, match="none may be below 0"):
        DeepSupervision(StructureLoss(), [1, -1])
    with pytest.raises(ValueError, match="allowed are 'nearest-exact' and 'area'"):
        DeepSupervision(StructureLoss(), mask_mode="bilinear")
