"""What is refused before any training: a size, a class count or an optimiser that cannot work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ..targets import TargetPipeline
from ..utils.precision import fast_bfloat16
from .distiller import Distiller
from .objective import Objective
from .phases import Plan

logger = logging.getLogger(__name__)

Predict = Callable[[torch.Tensor], tuple[Any, Mapping[str, torch.Tensor]]]


@torch.no_grad()
def check_first_batch(
    batch: Mapping[str, torch.Tensor],
    distiller: Distiller,
    predict: Predict,
    plan: Plan,
    targets: TargetPipeline,
    objective: Objective,
) -> tuple[dict[str, Sequence[int]], Sequence[int]]:
    """Run the student once, so that a size it cannot take or an empty band is refused before any training.

    Args:
        batch: of the training's loader.
        distiller: student and heads; left in eval mode.
        predict: image batch -> logits and the heads' maps, as the training has them.
        plan: the phases.
        targets: what the heads' maps are compared with.
        objective: the loss.

    Returns:
        Term -> grid of the student's map, and the size of the image.

    Raises:
        ValueError: an image without labels in a phase that needs them, another number of classes than the masks have, a
            grid that a target cannot have.
    """
    distiller.eval()
    phases = [phase for phase in plan.phases if phase.epochs]
    wants = [phase.name for phase in phases if phase.uses("segmentation")]
    if wants and "label" not in batch:
        raise ValueError(
            f"phase {wants[0]!r} weighs the segmentation term, but the training images have no labels. Give that "
            "phase no segmentation weight, or train it on labelled images."
        )
    image = batch["image"][:1]
    logits, mapped = predict(image)
    if wants:
        _check_classes(objective, type(distiller.student).__name__, logits, batch["label"][:1])
    used = [term for term in mapped if any(phase.uses(term) for phase in phases)]
    targets.check_grids({term: mapped[term].shape[2:] for term in used})
    return {term: value.shape[2:] for term, value in mapped.items()}, image.shape[2:]


def _check_classes(objective: Objective, network: str, logits: Any, label: torch.Tensor) -> None:
    """Refuse a network with another number of classes than the masks have, where the mask loss cannot take both."""
    first = logits if isinstance(logits, torch.Tensor) else logits[0]
    try:
        objective.segmentation(logits, label.to(first.device))
    except Exception:
        if first.shape[1] == label.shape[1]:
            raise
        raise ValueError(
            f"the network gives {first.shape[1]} classes ({network}), but the masks have "
            f"{label.shape[1]}: give the network out_channels {label.shape[1]}, or load the masks of all its classes."
        ) from None  # the loss says the same in its own words


def check_mixed(device: torch.device) -> None:
    """Warn where mixed precision would slow the training down by far."""
    if device.type == "cpu" and not fast_bfloat16():
        logger.warning(
            "amp is on, but this processor has no bfloat16 of its own and emulates it: training can take ten times as long or "
            "more. Leave amp off here (--amp False)."
        )


def check_optimizer(optimizer: torch.optim.Optimizer, objective: Objective) -> None:
    """Refuse an optimiser that lacks learned parameters of the objective.

    Raises:
        ValueError: names them.
    """
    known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    lost = [name for name, p in objective.named_parameters() if p.requires_grad and id(p) not in known]
    if lost:
        raise ValueError(
            f"the optimizer does not hold {', '.join(lost)} of the objective, so they would never learn. Build it over "
            "[*distiller.parameters(), *targets.parameters(), *objective.parameters()]."
        )
