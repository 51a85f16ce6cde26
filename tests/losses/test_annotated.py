"""Masked losses: what nobody annotated teaches nothing."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss
from torch import nn

from monai_difom.losses import MISSING, AnnotatedLoss, StructureLoss

LOSSES = [StructureLoss(kernel_size=5), DiceLoss(sigmoid=True), nn.BCEWithLogitsLoss()]


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(3, 4, 12, 10, requires_grad=True), torch.randint(0, 2, (3, 4, 12, 10)).float()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_with_nothing_missing_it_is_the_loss_itself_and_its_gradient(loss: nn.Module) -> None:
    logits, label = pair()
    ours, plain = AnnotatedLoss(loss)(logits, label), loss(logits, label)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(torch.autograd.grad(ours, logits)[0], torch.autograd.grad(plain, logits)[0])


@pytest.mark.parametrize("loss", [*LOSSES, DiceCELoss(sigmoid=True)], ids=lambda loss: type(loss).__name__)
def test_missing_channels_neither_count_nor_get_a_gradient(loss: nn.Module) -> None:
    logits, label = pair()
    label[0, 1], label[2] = MISSING, MISSING
    value = AnnotatedLoss(loss)(logits, label)
    kept = [(0, 0), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3)]
    expected = torch.stack([loss(logits[b, k][None, None], label[b, k][None, None]) for b, k in kept])
    torch.testing.assert_close(value, expected.mean())
    value.backward()
    touched = logits.grad.flatten(2).abs().sum(2) > 0
    assert touched.nonzero().tolist() == [list(place) for place in kept]


def test_overlapping_structures_are_no_exclusive_classes() -> None:
    label = torch.ones(1, 2, 8, 8)  # both structures everywhere
    sure = AnnotatedLoss(DiceCELoss(sigmoid=True))(torch.full((1, 2, 8, 8), 20.0), label)
    assert float(sure) < 1e-3


def test_a_batch_without_annotation_costs_nothing_and_still_has_a_gradient() -> None:
    logits, label = pair()
    value = AnnotatedLoss(StructureLoss())(logits, torch.full_like(label, MISSING))
    value.backward()
    assert float(value) == 0
    assert not logits.grad.any()


def test_another_number_of_channels_is_refused() -> None:
    logits, label = pair()
    with pytest.raises(ValueError, match="one output channel per structure"):
        AnnotatedLoss(StructureLoss())(logits[:, :1], label)


def test_an_infinite_logit_costs_nothing_where_no_structure_was_annotated() -> None:
    logits = torch.full((2, 3, 4, 4), torch.inf, requires_grad=True)
    loss = AnnotatedLoss(DiceCELoss(sigmoid=True))(logits, torch.full((2, 3, 4, 4), float(MISSING)))
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()
