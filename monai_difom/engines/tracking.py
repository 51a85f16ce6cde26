"""Trackers of experiments: what MONAI's handler for MLflow needs to know of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from monai.handlers import MLFlowHandler

from ..utils import world_size


def prepare_trackers(handlers: Iterable[Any], trainer: Any) -> None:
    """Have every MLflow handler note the settings of a run, unless it was given its own, and the loss as one number."""
    for handler in handlers:
        if isinstance(handler, MLFlowHandler):
            handler.experiment_param = handler.experiment_param or tracked_settings(trainer)
            handler.output_transform = _Single(handler.output_transform)


def tracked_settings(trainer: Any) -> dict[str, Any]:
    """Return what a tracker notes of a run beside its curves: seed, sizes, phases, student, teachers.

    Args:
        trainer: a `DistillationTrainer`.
    """
    loader = trainer.data_loader
    return {
        "seed": trainer.seed,
        "learning_rate": trainer.optimizer.defaults.get("lr"),
        "optimizer": type(trainer.optimizer).__name__,
        "batch_size": getattr(loader, "batch_size", None),
        "processes": world_size(),
        "train_images": len(getattr(loader, "dataset", ())),
        "mixed_precision": trainer.mixed,
        "ema": trainer.average.decay if trainer.average is not None else None,
        "phases": ", ".join(f"{phase.name} {phase.epochs}" for phase in trainer.plan.phases),
        "student": type(trainer.distiller.student).__name__,
        "balancer": type(trainer.objective.balancer).__name__,
        "teachers": ", ".join(trainer.targets.teachers) if trainer.distils else "none",
    }


class _Single:
    """MONAI's ``from_engine`` gives a tuple of one number where the output is one dict; a tracker wants the number."""

    def __init__(self, transform: Callable[[Any], Any]) -> None:
        self.transform = transform

    def __call__(self, output: Any) -> Any:
        found = self.transform(output)
        return found[0] if isinstance(found, tuple) and len(found) == 1 else found
