"""What every term did in every epoch and phase: logged, written to TensorBoard, and kept for the summary."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from ..engines.figures import FigureEvents
from ..engines.trainer import DistillationTrainer
from ..utils import is_main_rank

logger = logging.getLogger(__name__)


class PhaseLog:
    """Averages terms and weights over each epoch.

    When the epoch ends, the trainer's ``state.metrics`` hold them as ``terms/<term>`` and ``weights/<term>``, where handlers
    that are attached later (MONAI's ``MLFlowHandler``, ``--tracking mlflow``) find them.

    Args:
        log_dir: folder for TensorBoard scalars; None for none.
        validator: the evaluator whose metrics are logged beside, run earlier in the same epoch; may be None.

    Attributes:
        epochs: one dict per epoch: ``epoch, phase, terms, weights, lr, validation, seconds``.
    """

    def __init__(self, log_dir: str | os.PathLike | None = None, validator: Engine | None = None) -> None:
        self.log_dir = log_dir
        self.validator = validator
        self.epochs: list[dict[str, Any]] = []
        self._writer: SummaryWriter | None = None
        self._sums: dict[str, list[float]] = {}
        self._weights: dict[str, float] = {}
        self._begun = 0.0

    def attach(self, engine: DistillationTrainer) -> None:
        """Register with a trainer; attach it after the validation handler. The first process of a run logs."""
        if not is_main_rank():
            return
        self.trainer = engine
        engine.stateful["phase_log"] = self
        engine.add_event_handler(Events.EPOCH_STARTED, self._started)
        engine.add_event_handler(FigureEvents.READ, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._completed)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE, self._close)

    def state_dict(self) -> dict[str, Any]:
        """Return the log so far."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the log of an interrupted run."""
        self.epochs = list(state["epochs"])

    def _started(self, engine: Engine) -> None:
        self._sums, self._weights, self._begun = {}, {}, time.perf_counter()
        phase, progress = self.trainer.plan.at(engine.state.epoch - 1)
        if progress == 0:
            frozen = f", frozen: {', '.join(phase.freeze)}" if phase.freeze else ""
            weights = {term: weight for term, weight in phase.weights.items() if phase.uses(term)}
            logger.info(
                "Phase %r: %d epochs, weights %s, lr x%g%s.",
                phase.name,
                phase.epochs,
                weights,
                phase.lr,
                frozen,
            )

    def _collect(self, _engine: Engine) -> None:
        for step in self.trainer.figures:
            for term, value in step.terms.items():
                self._sums.setdefault(term, []).append(value)
        self._weights = dict(self.trainer.figures[-1].weights)

    def _completed(self, engine: Engine) -> None:
        scored = self.validator
        if scored is not None and scored.state.epoch != engine.state.epoch:
            scored = None  # it did not run in this epoch
        entry = {
            "epoch": engine.state.epoch,
            "phase": self.trainer.phase.name,
            "terms": {term: sum(values) / len(values) for term, values in self._sums.items()},
            "weights": self._weights,
            "lr": self.trainer.optimizer.param_groups[0]["lr"],
            "validation": {k: float(v) for k, v in scored.state.metrics.items()} if scored else {},
            "seconds": round(time.perf_counter() - self._begun, 3),
        }
        self.epochs.append(entry)
        # without the terms of an earlier phase
        kept = {k: v for k, v in engine.state.metrics.items() if not k.startswith(("terms/", "weights/"))}
        for group in ("terms", "weights"):
            kept |= {f"{group}/{name}": value for name, value in entry[group].items()}
        engine.state.metrics = kept
        shown = " ".join(f"{term} {value:.4f}" for term, value in entry["terms"].items())
        scores = " ".join(f"{name} {value:.4f}" for name, value in entry["validation"].items())
        logger.info(
            "Epoch %d/%d %s: %s | %s", entry["epoch"], self.trainer.plan.epochs, entry["phase"], shown, scores
        )
        if self.log_dir is not None:
            self._write(entry)

    def _write(self, entry: Mapping[str, Any]) -> None:
        for group in ("terms", "weights", "validation"):
            self.write(group, entry[group], entry["epoch"])
        self._opened().add_scalar("lr", entry["lr"], entry["epoch"])
        self._opened().flush()

    def write(self, group: str, values: Mapping[str, float], epoch: int) -> None:
        """Add scalars ``<group>/<name>`` to TensorBoard, where it is written."""
        if self.log_dir is not None:
            for name, value in values.items():
                self._opened().add_scalar(f"{group}/{name}", value, epoch)

    def conclude(self, settings: Mapping[str, Any], scores: Mapping[str, Mapping[str, Any]]) -> None:
        """Add what the run was trained with (its hyper-parameters) and what it reached on every test set to TensorBoard.

        Args:
            settings: id -> value; of them numbers, texts and truth values are taken.
            scores: test set -> score -> mean.
        """
        if self.log_dir is None:
            return
        reached = {
            f"test/{name}/{score}": float(value)
            for name, means in scores.items()
            for score, value in means.items()
            if isinstance(value, (int, float)) and score != "n"
        }
        plain = {
            name: value for name, value in settings.items() if isinstance(value, (bool, int, float, str))
        }
        for part in hparams(plain, reached):
            self._opened().file_writer.add_summary(part)  # type: ignore[attr-defined]
        for name, value in reached.items():
            self._opened().add_scalar(name, value, self.trainer.plan.epochs)
        self._close()

    def _opened(self) -> SummaryWriter:
        if self._writer is None:
            self._writer = SummaryWriter(log_dir=str(self.log_dir))
        return self._writer

    def _close(self, _engine: Engine | None = None) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def summary(self) -> list[dict[str, Any]]:
        """Return one dict per phase that ran: ``name``, ``epochs``, ``seconds``, and the last value of every term and weight."""
        rows = []
        for phase in self.trainer.plan.phases:
            own = [entry for entry in self.epochs if entry["phase"] == phase.name]
            if own:
                last = own[-1]
                rows.append(
                    {
                        "name": phase.name,
                        "epochs": len(own),
                        "seconds": round(sum(entry.get("seconds", 0.0) for entry in own), 1),
                        "terms": last["terms"],
                        "weights": last["weights"],
                    }
                )
        return rows
