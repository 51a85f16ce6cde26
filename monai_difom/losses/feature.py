"""Distance between a student's feature map and its target."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from monai.utils import LossReduction
from torch.nn.modules.loss import _Loss

from ..utils import look_up


def _mse(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return (student - teacher).pow(2).mean(1)


def _smooth_l1(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return F.smooth_l1_loss(student, teacher, reduction="none").mean(1)


# a dead position (an exactly zero vector behind a ReLU) has no direction: this keeps its gradient bounded
EPS = 1e-4


def _cosine(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    # 1 - cos as half the squared distance of unit vectors: exactly zero for equal vectors, where
    # 1 - cos(x, x) leaves a rounding error
    return 0.5 * (F.normalize(student, dim=1, eps=EPS) - F.normalize(teacher, dim=1, eps=EPS)).pow(2).sum(1)


def _cosine_smooth_l1(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return 0.9 * _cosine(student, teacher) + 0.1 * _smooth_l1(student, teacher)


# name -> distance of (B, C, *spatial) maps over the channel axis, (B, *spatial)
DISTANCES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mse": _mse,
    "smooth_l1": _smooth_l1,
    "cosine": _cosine,
    "cosine+smooth_l1": _cosine_smooth_l1,
}


def check_same_shape(input: torch.Tensor, target: torch.Tensor) -> None:  # noqa: A002
    """Refuse maps of different shapes: broadcasting would hide a wrong grid or a missing head."""
    if input.shape != target.shape:
        raise ValueError(
            f"student map {tuple(input.shape)} and target {tuple(target.shape)} differ. "
            "Resample the target to the student's grid; give the student a head with the target's channels."
        )


class FeatureDistillationLoss(_Loss):
    r"""Distance between a student map and a fixed target, per position over channels.

    With :math:`s_p, t_p \in R^C` the vectors at position :math:`p`:

    - ``mse``: :math:`\frac{1}{C} \lVert s_p - t_p \rVert_2^2`
    - ``smooth_l1``: Huber with threshold 1, mean over channels
    - ``cosine``: :math:`1 - \cos(s_p, t_p)`, in [0, 2]
    - ``cosine+smooth_l1``: 0.9 cosine + 0.1 smooth L1 (AM-RADIO, Ranzinger et al., CVPR 2024, section 3)

    The target never receives a gradient unless ``detach_target=False``; that setting exists only to reproduce
    the published Polyp-DiFoM notebook, whose trainable target collapses.

    Args:
        distance: one of the four names above.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` (one value per position).
        detach_target: stop gradients at the target.

    Example:
        >>> loss = FeatureDistillationLoss("cosine")
        >>> x = torch.rand(2, 8, 4, 4)
        >>> float(loss(x, x))
        0.0
    """

    def __init__(
        self,
        distance: str = "mse",
        reduction: LossReduction | str = LossReduction.MEAN,
        detach_target: bool = True,
    ) -> None:
        super().__init__(reduction=LossReduction(reduction).value)
        self.distance_name, self.distance = distance, look_up("distance", distance, DISTANCES)
        self.detach_target = detach_target

    def comparable(self, student: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both maps as they are compared: as unit vectors where lengths are free, as with a cosine."""
        if not self.distance_name.startswith("cosine"):
            return student, target
        return F.normalize(student, dim=1, eps=EPS), F.normalize(target, dim=1, eps=EPS)

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:  # noqa: A002
        """Return the distance.

        Args:
            input: student map, ``(B, C, *spatial)``.
            target: teacher map, same shape.

        Returns:
            A scalar, or ``(B, *spatial)`` with ``reduction="none"``.

        Raises:
            ValueError: the shapes differ.
        """
        check_same_shape(input, target)
        # half precision would round small distances to zero, and with them the gradient
        student, teacher = input.float(), target.float()
        value = self.distance(student, teacher.detach() if self.detach_target else teacher)
        if self.reduction == LossReduction.MEAN.value:
            return value.mean()
        return value.sum() if self.reduction == LossReduction.SUM.value else value
