"""Distance between a student's and a teacher's predictions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.utils import LossReduction
from torch.nn.modules.loss import _Loss

from .feature import check_same_shape

_KINDS = ("softmax", "sigmoid")


class LogitDistillationLoss(_Loss):
    r"""Kullback-Leibler divergence of tempered predictions, per position (Hinton et al., arXiv 1503.02531).

    With logits :math:`s, t \in R^K` at a position and temperature :math:`T`:

    - ``softmax`` (one class per position, :math:`K \geq 2`):
      :math:`L = T^2 \sum_k p_k \log \frac{p_k}{q_k}, \quad p = \mathrm{softmax}(t / T),\ q = \mathrm{softmax}(s / T)`
    - ``sigmoid`` (classes apart, :math:`K \geq 1`), the mean over classes of the divergence of two Bernoulli
      distributions: :math:`L = \frac{T^2}{K} \sum_k p_k \log \frac{p_k}{q_k} + (1 - p_k) \log \frac{1 - p_k}{1 - q_k}`
      with :math:`p = \sigma(t / T),\ q = \sigma(s / T)`; the binary cross entropy to a soft target less the target's own
      entropy, so that it has the same gradient and is zero where the two agree.

    :math:`T^2` keeps the size of the gradient when the temperature changes. The teacher never receives a gradient.

    With ``min_confidence`` a position counts only where the teacher is sure: where its largest probability at
    temperature 1 (``softmax``), or :math:`\max(p_k, 1 - p_k)` of that class (``sigmoid``), reaches it. On images made by
    a model a teacher is often unsure, and what it says there is noise.

    Args:
        kind: ``"softmax"`` or ``"sigmoid"``.
        temperature: :math:`T`, above 0.
        min_confidence: gate in [0, 1]; 0 takes every position.
        reduction: ``"mean"`` over the positions (and classes) that count, ``"sum"``, or ``"none"`` (one value per
            position, 0 where the gate is shut). With every gate shut the loss is 0.

    Raises:
        ValueError: no such kind, a temperature of 0 or below, or a gate outside [0, 1].

    Example:
        >>> loss = LogitDistillationLoss("sigmoid", temperature=2.0)
        >>> x = torch.randn(2, 1, 8, 8)
        >>> float(loss(x, x))
        0.0
    """

    def __init__(
        self,
        kind: str = "softmax",
        temperature: float = 1.0,
        min_confidence: float = 0.0,
        reduction: LossReduction | str = LossReduction.MEAN,
    ) -> None:
        super().__init__(reduction=LossReduction(reduction).value)
        if kind not in _KINDS:
            raise ValueError(
                f"kind is {kind!r}; allowed are 'softmax' (one class per position) and 'sigmoid'."
            )
        if temperature <= 0 or not 0 <= min_confidence <= 1:
            raise ValueError(
                f"temperature is {temperature} and min_confidence {min_confidence}; allowed are a temperature above 0 "
                "and a confidence in [0, 1]."
            )
        self.kind = kind
        self.temperature = float(temperature)
        self.min_confidence = float(min_confidence)

    def comparable(self, student: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tempered probabilities of both: logits may differ by what changes no prediction."""
        if self.kind == "softmax":
            return (student / self.temperature).softmax(1), (target / self.temperature).softmax(1)
        return (student / self.temperature).sigmoid(), (target / self.temperature).sigmoid()

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:  # noqa: A002
        """Return the divergence.

        Args:
            input: student logits, ``(B, K, *spatial)``.
            target: teacher logits, same shape.

        Returns:
            A scalar, or ``(B, *spatial)`` with ``reduction="none"``.

        Raises:
            ValueError: the shapes differ, or ``softmax`` with one class.
        """
        check_same_shape(input, target)
        if self.kind == "softmax" and input.shape[1] < 2:
            raise ValueError(
                "kind 'softmax' needs at least two classes; use 'sigmoid' for one channel of logits."
            )
        student, teacher = input.float(), target.float().detach()
        each, confidence = (
            self._softmax(student, teacher)
            if self.kind == "softmax"
            else _sigmoid(student / self.temperature, teacher, self.temperature)
        )
        gate = (confidence >= self.min_confidence).to(each.dtype)
        each = each * gate * self.temperature**2
        if self.reduction == LossReduction.MEAN.value:
            return each.sum() / gate.sum().clamp_min(1)
        if self.reduction == LossReduction.SUM.value:
            return each.sum() / each.shape[1]
        return each.mean(1)

    def _softmax(self, student: torch.Tensor, teacher: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Divergence and the teacher's confidence, both ``(B, 1, *spatial)``."""
        log_p = F.log_softmax(teacher / self.temperature, 1)
        log_q = F.log_softmax(student / self.temperature, 1)
        return (log_p.exp() * (log_p - log_q)).sum(1, keepdim=True), teacher.softmax(1).amax(1, keepdim=True)


def _sigmoid(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Divergence of tempered student and teacher and the teacher's confidence, both ``(B, K, *spatial)``."""
    tempered = teacher / temperature
    # log(1 - sigmoid(x)) is logsigmoid(-x): no difference of nearly equal numbers
    yes = tempered.sigmoid() * (F.logsigmoid(tempered) - F.logsigmoid(student))
    no = (-tempered).sigmoid() * (F.logsigmoid(-tempered) - F.logsigmoid(-student))
    certain = teacher.sigmoid()
    return yes + no, torch.maximum(certain, 1 - certain)
