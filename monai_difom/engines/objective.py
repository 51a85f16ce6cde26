"""The training objective: named terms, balanced and weighted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ..losses import UniformBalancer
from ..targets import DistillationTerm


@dataclass
class Scored:
    """What one batch cost.

    Args:
        total: the number that is minimised, a scalar with gradient.
        terms: term -> its unweighted value, without gradient.
        weights: term -> the weight it had in the total.
    """

    total: torch.Tensor
    terms: dict[str, torch.Tensor]
    weights: dict[str, float]


class Objective(nn.Module):
    """Mask loss and distillation terms by name; a balancer compares them, the phase weighs them.

    Args:
        segmentation: mask loss, called as ``loss(logits, label)``.
        balancer: dict of losses -> dict of weights; uniform by default.
    """

    def __init__(
        self,
        segmentation: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        balancer: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.segmentation = segmentation
        self.balancer = balancer if balancer is not None else UniformBalancer()

    def forward(
        self,
        logits: torch.Tensor,
        label: torch.Tensor | None,
        student: Mapping[str, torch.Tensor],
        targets: Mapping[str, torch.Tensor],
        terms: Mapping[str, DistillationTerm],
        weights: Mapping[str, float],
    ) -> Scored:
        """Score one batch.

        Args:
            logits: ``(B, K, *spatial)``.
            label: masks of the same shape in [0, 1]; may be None when the segmentation weight is 0.
            student: term -> head output.
            targets: term -> target of the same shape.
            terms: term -> its definition.
            weights: term -> phase weight; terms with weight 0 are left out.

        Raises:
            FloatingPointError: a term is not finite; it is named.
        """
        losses: dict[str, torch.Tensor] = {}
        if weights.get("segmentation", 0.0) > 0:
            if label is None:
                raise ValueError("the segmentation term has a weight, but the batch holds no label.")
            # losses in full precision whatever the forward pass ran in
            losses["segmentation"] = self.segmentation(logits.float(), label)
        for name, target in targets.items():
            losses[name] = terms[name].loss(student[name], target)
        for name, value in losses.items():
            if not torch.isfinite(value):
                raise FloatingPointError(
                    f"loss term {name!r} is {float(value)}. Lower the learning rate or clip the gradient (max_grad_norm)."
                )
        balance = self.balancer(losses)
        applied = {name: weights[name] * balance[name] for name in losses}
        # no term at all leaves a zero that still has a gradient, so that backward() stays legal
        total = sum((applied[name] * losses[name] for name in losses), start=logits.float().sum() * 0.0)
        return Scored(
            total=total,
            terms={name: value.detach() for name, value in losses.items()},
            weights={name: weights[name] * float(balance[name]) for name in losses},
        )
