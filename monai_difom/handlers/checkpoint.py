"""Checkpoints that a kill cannot break, and the best student of the run."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

from ..engines.trainer import DistillationTrainer
from ..networks.student import network_state
from ..utils import is_main_rank, save_state
from ..utils.weight_files import KEPT, LAST_STUDENT, STATE, STATE_BEFORE, STUDENT

logger = logging.getLogger(__name__)

FEW_IMAGES = 50  # fewer choose an epoch by luck: 25 cost a student 2 points, 90 nothing (benchmarks/gain.md)


def kept_weights(validation_images: int) -> str:
    """Return which student a training with soft masks keeps: ``last`` where few validation images would choose, else ``best``."""
    return "last" if validation_images < FEW_IMAGES else "best"


class TrainingCheckpoint:
    """Writes ``last.pt`` (the whole training state) and ``model.pt`` (the best plain student) after epochs.

    The best student is that with the highest validation metric; without a validator it is the last one. A phase on features
    alone leaves the decoder as it was, so its scores say nothing: the last student counts until masks (or predictions) are
    learned. A score that is infinite or not a number is never the best, and a warning says so. Of a run with averaged weights the
    student is the averaged one. After the last epoch its student is kept too, as ``last_model.pt``: a score of it owes nothing to
    the choice of an epoch. Files are written beside their place and renamed, so that a kill leaves the former one whole, with a
    checksum; the training state before the last stays as ``last_before.pt``.

    Args:
        save_dir: folder of both files.
        validator: evaluator whose key metric chooses the best student; attach this handler after the validation.
        keep: which student ``model.pt`` is: ``best`` by validation, or the ``last``; see `kept_weights`.
        interval: epochs between two writes of ``last.pt``; the last epoch is always written.
        last_name: file name of the training state.
        best_name: file name of the best student.
        last_model_name: file name of the student after the last epoch.

    Raises:
        ValueError: when ``keep`` is neither.
    """

    def __init__(
        self,
        save_dir: str | os.PathLike,
        validator: Engine | None = None,
        interval: int = 1,
        last_name: str = STATE,
        best_name: str = STUDENT,
        last_model_name: str = LAST_STUDENT,
        keep: str = "best",
    ) -> None:
        if keep not in KEPT:
            raise ValueError(
                f"keep is {keep!r}; allowed are {' and '.join(KEPT)}: which weights model.pt holds."
            )
        self.folder = Path(save_dir)
        self.validator = validator
        self.interval = interval
        self.keep = keep
        self.last_name, self.best_name, self.last_model_name = last_name, best_name, last_model_name
        self.best: float | None = None
        self.best_epoch: int | None = None

    def attach(self, engine: DistillationTrainer) -> None:
        """Register with a trainer, after every handler whose state belongs in the checkpoint; the first process writes."""
        if not is_main_rank():
            return
        self.trainer = engine
        engine.stateful["checkpoint"] = self
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._completed)

    def state_dict(self) -> dict[str, Any]:
        """Return the best score so far and its epoch."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the best score of an interrupted run."""
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        if self.best is not None and not math.isfinite(self.best):
            self.best = None  # nothing could exceed it

    def _score(self, epoch: int) -> float | None:
        # MONAI runs a validator under the trainer's epoch: another number is an older student's score
        if self.validator is None or self.validator.state.epoch != epoch:
            return None
        name = self.validator.state.key_metric_name
        score = float(self.validator.state.metrics[name])
        if math.isfinite(score):
            return score
        logger.warning(
            "The validation score %s of epoch %d is %s, so that epoch cannot be the best. Look at the validation masks and "
            "at the loss.",
            name,
            epoch,
            score,
        )
        return None

    def _predicts(self) -> bool:
        """Whether the current phase teaches the output anything."""
        terms, phase = self.trainer.targets.terms, self.trainer.phase
        return phase.uses("segmentation") or any(
            phase.uses(n) and t.tap == "output" for n, t in terms.items()
        )

    def _completed(self, engine: Engine) -> None:
        epoch, predicts = engine.state.epoch, self._predicts()
        score = self._score(epoch) if predicts else None
        final = epoch == self.trainer.plan.epochs
        better = score is not None and (self.best is None or score > self.best)
        if (
            better
            or self.keep == "last"
            or self.validator is None
            or (self.best is None and (final or not predicts))
        ):
            self.best, self.best_epoch = score, epoch
            save_state(self.folder / self.best_name, network_state(self.trainer.distiller.student))
        if final:
            save_state(self.folder / self.last_model_name, network_state(self.trainer.distiller.student))
        if epoch % self.interval == 0 or final:
            save_state(self.folder / self.last_name, self.trainer.checkpoint(), before=STATE_BEFORE)
