"""The objective."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss

from monai_difom.engines import Objective
from monai_difom.losses import DeepSupervision, MLPBalancer, StaticBalancer
from monai_difom.targets import DistillationTerm

TERMS = {"low": DistillationTerm("low", tap="bottleneck")}


def parts() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    logits, student = torch.randn(2, 1, 8, 8, requires_grad=True), torch.randn(2, 4, 4, 4, requires_grad=True)
    return (
        logits,
        torch.randint(0, 2, (2, 1, 8, 8)).float(),
        student,
        torch.randn(2, 4, 4, 4, requires_grad=True),
    )


def test_the_total_is_the_weighted_sum_of_its_named_terms() -> None:
    logits, label, student, target = parts()
    scored = Objective(DiceCELoss(sigmoid=True))(
        logits, label, {"low": student}, {"low": target}, TERMS, {"segmentation": 0.5, "low": 2.0}
    )
    assert scored.weights == {"segmentation": 0.5, "low": 2.0}
    expected = 0.5 * scored.terms["segmentation"] + 2.0 * scored.terms["low"]
    torch.testing.assert_close(scored.total.detach(), expected)


def test_teacher_side_numbers_receive_no_gradient() -> None:
    logits, label, student, target = parts()
    Objective(DiceCELoss(sigmoid=True))(
        logits, label, {"low": student}, {"low": target}, TERMS, {"low": 1.0}
    ).total.backward()
    assert target.grad is None
    assert student.grad is not None


def test_a_step_without_any_term_still_has_a_gradient_of_zero() -> None:
    logits, label, _, _ = parts()
    scored = Objective(DiceCELoss(sigmoid=True))(logits, label, {}, {}, TERMS, {})
    scored.total.backward()
    assert float(scored.total) == 0
    assert not logits.grad.any()


def test_a_term_that_is_not_finite_is_named() -> None:
    logits, label, student, target = parts()
    with pytest.raises(FloatingPointError, match="loss term 'low' is nan"):
        Objective(DiceCELoss(sigmoid=True))(
            logits, label, {"low": student * torch.nan}, {"low": target}, TERMS, {"low": 1.0}
        )


def test_a_mask_loss_without_a_mask_is_refused() -> None:
    logits, _, _, _ = parts()
    with pytest.raises(ValueError, match="no label"):
        Objective(DiceCELoss(sigmoid=True))(logits, None, {}, {}, TERMS, {"segmentation": 1.0})


def test_side_outputs_are_scored_by_the_weights_of_their_loss_or_else_alike() -> None:
    logits, label, _, _ = parts()
    outputs = [logits, logits * 2]
    plain = DiceCELoss(sigmoid=True)
    each = [plain(output, label).detach() for output in outputs]
    for loss, expected in (
        (DeepSupervision(plain, [1.0, 0.5]), each[0] + 0.5 * each[1]),
        (DeepSupervisionLoss(plain, weights=[1.0, 0.5]), each[0] + 0.5 * each[1]),
        (plain, (each[0] + each[1]) / 2),
    ):
        scored = Objective(loss)(outputs, label, {}, {}, TERMS, {"segmentation": 1.0})
        torch.testing.assert_close(scored.terms["segmentation"], expected)


def test_side_outputs_in_half_precision_are_scored_in_full() -> None:
    logits, label, _, _ = parts()
    outputs = [logits.bfloat16(), logits.bfloat16()]
    scored = Objective(DiceCELoss(sigmoid=True))(outputs, label, {}, {}, TERMS, {"segmentation": 1.0})
    assert scored.total.dtype == torch.float32


def test_the_mask_loss_is_not_balanced_unless_asked() -> None:
    logits, label, student, target = parts()
    arguments = (logits, label, {"low": student}, {"low": target}, TERMS, {"segmentation": 0.5, "low": 2.0})
    plain = Objective(DiceCELoss(sigmoid=True), StaticBalancer({"low": 3.0}))(*arguments)
    assert plain.weights == {"segmentation": 0.5, "low": 6.0}
    assert plain.balance == {"low": 3.0}
    both = StaticBalancer({"segmentation": 2.0, "low": 3.0})
    everything = Objective(DiceCELoss(sigmoid=True), both, balance_masks=True)(*arguments)
    assert everything.weights == {"segmentation": 1.0, "low": 6.0}


def test_a_learned_balancer_gets_a_gradient_and_adds_nothing_to_the_total() -> None:
    logits, label, student, target = parts()
    objective = Objective(DiceCELoss(sigmoid=True), MLPBalancer(["low", "high"]))
    terms = {**TERMS, "high": DistillationTerm("high", tap="stride2")}
    maps, targets = {"low": student, "high": student * 3}, {"low": target, "high": target}
    for _ in range(2):  # from the second batch on the two terms have something to tell apart
        maps["high"] = maps["high"] * 0.5
        scored = objective(
            logits, label, maps, targets, terms, {"segmentation": 1.0, "low": 1.0, "high": 2.0}
        )
    expected = sum(scored.weights[name] * value for name, value in scored.terms.items())
    torch.testing.assert_close(scored.total.detach(), expected)
    scored.total.backward()
    assert objective.balancer.last.bias.grad.abs().sum() > 0


def test_terms_that_the_balancer_does_not_know_are_refused() -> None:
    objective = Objective(DiceCELoss(sigmoid=True), StaticBalancer({"low": 3.0}))
    objective.check_terms(["low"])
    with pytest.raises(ValueError, match="and not 'high'"):
        objective.check_terms(["low", "high"])


def test_without_a_mask_loss_the_logits_get_no_gradient_at_all() -> None:
    logits, label, student, target = parts()
    Objective(DiceCELoss(sigmoid=True))(
        logits, label, {"low": student}, {"low": target}, TERMS, {"low": 1.0}
    ).total.backward()
    assert logits.grad is None


@pytest.mark.parametrize("weights", [{"low": 1.0}, {}])
def test_an_infinite_logit_that_no_term_reads_leaves_the_total_finite(weights: dict[str, float]) -> None:
    logits, label, student, target = parts()
    with torch.no_grad():
        logits[0, 0, 0, 0] = torch.inf
    maps = ({"low": student}, {"low": target}) if weights else ({}, {})
    scored = Objective(DiceCELoss(sigmoid=True))(logits, label, *maps, TERMS, weights)
    assert torch.isfinite(scored.total)
    scored.total.backward()
    assert logits.grad is None or not logits.grad.any()
