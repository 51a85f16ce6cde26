"""The training objective: named terms, balanced and weighted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from monai.losses import DeepSupervisionLoss
from torch import nn

from ..losses import Balancer, DeepSupervision, UniformBalancer
from ..losses.annotated import annotated_images, zero_of
from ..targets import DistillationTerm
from ..utils import read_later


@dataclass
class Scored:
    """What one batch cost.

    Args:
        total: the number that is minimised, a scalar with gradient.
        terms: term -> its unweighted value, without gradient.
        weights: term -> the weight it had in the total, a number or a scalar without gradient.
        balance: term -> what the balancer gave it, before the phase weighed it; balanced terms only.
    """

    total: torch.Tensor
    terms: dict[str, torch.Tensor]
    weights: dict[str, float | torch.Tensor]
    balance: dict[str, torch.Tensor] = field(default_factory=dict)


def check_finite(names: Sequence[str], numbers: Sequence[float]) -> None:
    """Refuse terms that are infinite or no number.

    Raises:
        FloatingPointError: names the first.
    """
    for name, value in zip(names, numbers, strict=True):
        if not math.isfinite(value):
            raise FloatingPointError(
                f"loss term {name!r} is {value}. Lower the learning rate or clip the gradient (max_grad_norm)."
            )


class Objective(nn.Module):
    """Mask loss and distillation terms by name; a balancer compares them, the phase weighs them.

    Args:
        segmentation: mask loss, called as ``loss(logits, label)``. Of a student with side outputs in training, a
            `DeepSupervision` (or MONAI's `DeepSupervisionLoss`) gets the list; any other loss is applied to each
            output, and the mean counts.
        balancer: compares the terms; uniform by default. Its parameters belong in the optimiser.
        balance_masks: let it compare the mask loss too, under the name ``segmentation``; else that keeps weight 1.
    """

    def __init__(
        self,
        segmentation: Callable[[Any, torch.Tensor], torch.Tensor],
        balancer: Balancer | None = None,
        balance_masks: bool = False,
    ) -> None:
        super().__init__()
        self.segmentation = segmentation
        self.balancer = balancer if balancer is not None else UniformBalancer()
        self.balance_masks = balance_masks

    def check_terms(self, names: Iterable[str]) -> None:
        """Refuse a balancer that does not compare the training's distillation terms; see `Balancer.check_terms`."""
        self.balancer.check_terms([*(["segmentation"] if self.balance_masks else []), *names])

    def forward(
        self,
        logits: torch.Tensor | Sequence[torch.Tensor],
        label: torch.Tensor | None,
        student: Mapping[str, torch.Tensor],
        targets: Mapping[str, torch.Tensor],
        terms: Mapping[str, DistillationTerm],
        weights: Mapping[str, float],
        annotated: torch.Tensor | None = None,
    ) -> Scored:
        """Score one batch.

        Args:
            logits: ``(B, K, *spatial)``, or several of a student with side outputs.
            label: masks ``(B, K, *spatial)`` in [0, 1]; images whose mask is all `MISSING` teach the other terms alone. May be
                None when the segmentation weight is 0.
            student: term -> head output.
            targets: term -> target of the same shape.
            terms: term -> its definition.
            weights: term -> phase weight; terms with weight 0 are left out.
            annotated: numbers of the images that have a mask, see `annotated_images`; None looks at the masks themselves.

        Raises:
            FloatingPointError: a term is not finite; it is named. At once, or where a training collects its readings, with
                them (`read_later`).
        """
        losses: dict[str, torch.Tensor] = {}
        # losses in full precision whatever the forward pass ran in
        outputs = [each.float() for each in ([logits] if isinstance(logits, torch.Tensor) else logits)]
        if weights.get("segmentation", 0.0) > 0:
            if label is None:
                raise ValueError("the segmentation term has a weight, but the batch holds no label.")
            if annotated is None:
                annotated = annotated_images(label)
            if len(annotated) < len(label):
                outputs, label = [each[annotated] for each in outputs], label[annotated]
            losses["segmentation"] = self._segment(outputs, label) if len(label) else zero_of(outputs[-1])
        for name, target in targets.items():
            losses[name] = terms[name].loss(student[name], target)
        if losses:
            read_later(
                torch.stack([v.detach() for v in losses.values()]), partial(check_finite, tuple(losses))
            )
        compared = {n: value for n, value in losses.items() if n != "segmentation" or self.balance_masks}
        balance, own = self.balancer(compared)
        applied: dict[str, float | torch.Tensor] = {n: weights[n] * balance.get(n, 1.0) for n in losses}
        total = sum((applied[name] * losses[name] for name in losses), start=outputs[-1].new_zeros(()))
        if own is not None:
            # trains the balancer and costs nothing; a published balancer, which also moves the student, must
            # count as much as the terms that it compares
            scale = sum(weights[name] for name in compared) / len(compared)
            total = total + scale * (own - own.detach())
        if not total.requires_grad:
            # Nothing to learn from, and backward() stays legal. Only then: a zero gradient is not none, and an optimiser with
            # weight decay or momentum moves what has one.
            total = total + zero_of(outputs[-1])
        return Scored(
            total=total,
            terms={name: value.detach() for name, value in losses.items()},
            weights=applied,
            balance=balance,
        )

    def _segment(self, outputs: list[torch.Tensor], label: torch.Tensor) -> torch.Tensor:
        """The mask loss of one output, or of several."""
        if len(outputs) == 1:
            return self.segmentation(outputs[0], label)
        if isinstance(self.segmentation, (DeepSupervision, DeepSupervisionLoss)):
            return self.segmentation(outputs, label)
        return DeepSupervision(self.segmentation)(outputs, label)
