"""What a training run needs to go on: its state as tensors and plain data, and taking that up again."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.optim.lr_scheduler import LambdaLR

from ..networks.weights import fill_network
from ..targets import TargetPipeline
from ..utils import load_state
from ..utils.weight_files import MODELS, STATE, STUDENT
from .average import WeightAverage
from .distiller import Distiller
from .objective import Objective
from .phases import Phase, Plan, with_defaults

VERSION = 1
logger = logging.getLogger(__name__)


class Stateful(Protocol):
    """A handler whose state belongs in the checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain data and tensors."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take that state back."""


class Resumable(Protocol):
    """What a training holds that its rest depends on."""

    state: Any
    seed: int
    plan: Plan
    phase: Phase
    distiller: Distiller
    targets: TargetPipeline
    objective: Objective
    optimizer: torch.optim.Optimizer
    lr_scheduler: LambdaLR
    scaler: torch.amp.GradScaler | None
    average: WeightAverage | None
    stateful: dict[str, Stateful]

    @property
    def distils(self) -> bool:
        """Whether any phase gives any distillation term a weight."""


def _identity(trainer: Resumable) -> dict[str, Any]:
    """Return what must be equal in the run that goes on."""
    return {
        "version": VERSION,
        "seed": trainer.seed,
        "epoch_length": trainer.state.epoch_length,
        "plan": trainer.plan.as_dict(),
        "teachers": trainer.targets.signatures() if trainer.distils else {},
        "ema": trainer.average.decay if trainer.average is not None else None,
    }


def training_state(trainer: Resumable) -> dict[str, Any]:
    """Return all that the rest of a run depends on; nothing of the teachers but their signatures."""
    return {
        **_identity(trainer),
        "phase": trainer.phase.name,
        "epoch": trainer.state.epoch,
        "iteration": trainer.state.iteration,
        "distiller": trainer.distiller.state_dict(),
        "targets": trainer.targets.state_dict(),
        "objective": trainer.objective.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "lr_scheduler": {"last_epoch": trainer.lr_scheduler.last_epoch},
        "average": trainer.average.state_dict() if trainer.average is not None else {},
        "scaler": trainer.scaler.state_dict() if trainer.scaler is not None else {},
        "handlers": {name: handler.state_dict() for name, handler in trainer.stateful.items()},
    }


def resume_training(trainer: Resumable, path: str | os.PathLike) -> None:
    """Take up a checkpoint of the same run.

    Args:
        trainer: of the same configuration; changed in place.
        path: file, or a folder that holds ``last.pt`` or ``models/last.pt``.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is of another network, plan, seed, data set or teacher; says what differs.
    """
    file = find_checkpoint(path)
    state = load_state(file, map_location=trainer.state.device)
    if not isinstance(state, dict) or "distiller" not in state or "plan" not in state:
        raise ValueError(
            f"{file} is no training checkpoint. Resume from a run's {STATE}; {STUDENT} holds the student only."
        )
    stored = {**state, "plan": with_defaults(state["plan"])}
    for key, value in _identity(trainer).items():
        if stored.get(key) != value:
            raise ValueError(
                f"{file} belongs to another run: its {key} is {stored.get(key)}, here it is {value}. "
                "Resume with the same configuration, or start anew without resume."
            )
    advice = "Use the student and terms that the run was started with."
    fill_network(trainer.distiller, state["distiller"], file, advice)
    trainer.targets.load_state_dict(state["targets"])
    trainer.objective.load_state_dict(state["objective"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.lr_scheduler.last_epoch = state["lr_scheduler"]["last_epoch"]
    if trainer.average is not None:
        trainer.average.load_state_dict(state["average"])
    # a run that had no gradient scaler (CPU, or amp off) left none: the scale is then found anew
    if trainer.scaler is not None and state["scaler"]:
        trainer.scaler.load_state_dict(state["scaler"])
    for name, handler in trainer.stateful.items():
        if name in state["handlers"]:
            handler.load_state_dict(state["handlers"][name])
    trainer.state.epoch, trainer.state.iteration = state["epoch"], state["iteration"]
    logger.info("Resumed from %s after epoch %d of %d.", file, state["epoch"], trainer.plan.epochs)


def find_checkpoint(path: str | os.PathLike) -> Path:
    """Return the checkpoint file at a path, or in a run's folder."""
    given = Path(path)
    for candidate in (given, given / STATE, given / MODELS / STATE):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"no checkpoint at {given}: give a {STATE}, or the folder that holds it.")
