"""Watches whether anything is transferred: a distillation loss near zero can mean success or a dead target."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events

from ..engines.trainer import DistillationTrainer
from ..targets.standardize import StreamingCovariance
from ..utils import is_main_rank
from .collapse_figures import Explained, figures
from .phases import PhaseLog
from .soft_masks import SoftMaskFit

logger = logging.getLogger(__name__)


class CollapseError(RuntimeError):
    """A distillation term collapsed, and the run is strict about it."""


class CollapseMonitor:
    """Measures, per term and on validation images, whether the student explains a target that is alive.

    - ``r2``: share of the target's variance that the student explains, against predicting the target's mean; 0 or less
      means that nothing is transferred. Measured on what the term's loss compares (its method ``comparable``: unit vectors of a
      cosine, probabilities of logits). A loss without that method may not care for distances at all: no warning is
      given (``distance`` is False).
    - ``r2_image``: the same against predicting the target's mean image, see `Explained`, and ``same``: the share of the variance
      that is the same in every image. Both are absent where there is one image.
    - ``target_variance``: mean variance of the target's channels. A target that loses it has collapsed.
    - ``effective_rank``: exponential of the entropy of the target's spectrum (Roy and Vetterli, 2007): how many
      directions the target still has.

    A term is collapsed when its target has lost nearly all the variance that it had before training, or has (almost)
    one direction left. Measured before training and at the end of every phase that gives the term a weight. Of soft masks, see
    `SoftMaskFit`.

    Args:
        loader: validation batches with ``image``, and ``teacher_image`` or stored ``targets``.
        max_images: how many validation images are used.
        min_variance: share of the first variance under which a target counts as collapsed.
        min_rank: effective rank under which a target counts as collapsed.
        strict: stop the run on a collapse instead of warning.

    Attributes:
        results: term -> ``r2, r2_image, same, target_variance, effective_rank, distance, collapsed, epoch, phase``, last
            measurement.
    """

    def __init__(
        self,
        loader: Iterable[Mapping[str, torch.Tensor]],
        max_images: int = 64,
        min_variance: float = 0.02,
        min_rank: float = 1.5,
        strict: bool = False,
    ) -> None:
        self.loader = loader
        self.max_images = max_images
        self.min_variance, self.min_rank = min_variance, min_rank
        self.strict = strict
        self.first_variance: dict[str, float] = {}
        self.results: dict[str, dict[str, Any]] = {}

    def attach(self, engine: DistillationTrainer) -> None:
        """Register with a trainer, before its checkpoint handler; the first process of a run measures."""
        if not is_main_rank():
            return
        self.trainer = engine
        engine.stateful["collapse"] = self
        if engine.distils:
            engine.add_event_handler(Events.STARTED, self._before)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._completed)
        if getattr(getattr(engine.data_loader, "dataset", None), "soft_masks", None) is not None:
            SoftMaskFit(self.results).attach(engine)

    def state_dict(self) -> dict[str, Any]:
        """Return the first variances and the last results."""
        return {"first_variance": self.first_variance, "results": self.results}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the figures of an interrupted run."""
        self.first_variance = dict(state["first_variance"])
        self.results.update(state["results"])

    @torch.no_grad()
    def measure(self, terms: Iterable[str]) -> dict[str, dict[str, float]]:
        """Return term -> figures of the student as it is now, on validation images."""
        trainer = self.trainer
        found = {name: StreamingCovariance(trainer.targets.channels(name)) for name in terms}
        explained = {name: Explained() for name in found}
        was_training = trainer.distiller.training
        trainer.distiller.eval()
        left = self.max_images
        for batch in self.loader:
            _, mapped = trainer.distiller(batch["image"][:left].to(trainer.state.device))
            for name, target in trainer.targets_of(batch, found, left).items():
                found[name].update(target)
                comparable = getattr(trainer.targets.terms[name].loss, "comparable", _as_it_is)
                explained[name].update(*comparable(mapped[name].float(), target.float()))
            left -= min(left, batch["image"].shape[0])
            if left == 0:
                break
        trainer.distiller.train(was_training)
        return {
            name: {**figures(statistics, 0.0), **explained[name].figures()}
            for name, statistics in found.items()
        }

    def _before(self, _engine: Engine) -> None:
        if self.first_variance:  # resumed: the first figures are those of the first start
            return
        used = [
            t
            for t in self.trainer.targets.terms
            if any(p.epochs and p.uses(t) for p in self.trainer.plan.phases)
        ]
        self.first_variance = {name: value["target_variance"] for name, value in self.measure(used).items()}

    def _completed(self, engine: Engine) -> None:
        phase = self.trainer.plan.ends().get(engine.state.epoch)
        terms = [term for term in self.trainer.targets.terms if phase is not None and phase.uses(term)]
        if phase is None or not terms:
            return
        measured = self.measure(terms)
        log = self.trainer.stateful.get("phase_log")
        if isinstance(log, PhaseLog):
            for figure in ("r2", "r2_image", "effective_rank"):
                own = {name: value[figure] for name, value in measured.items() if figure in value}
                log.write(figure, own, engine.state.epoch)
        for name, value in measured.items():
            kept = value["target_variance"] / max(self.first_variance[name], 1e-30)
            # predictions of one or two classes have few directions by nature
            flat = value["effective_rank"] < self.min_rank and not self.trainer.targets.terms[name].raw
            collapsed = kept < self.min_variance or flat
            distance = hasattr(self.trainer.targets.terms[name].loss, "comparable")
            self.results[name] = {
                **value,
                "distance": distance,
                "collapsed": collapsed,
                "epoch": engine.state.epoch,
                "phase": phase.name,
            }
            if collapsed:
                self._report(name, kept, value)
            elif value["r2"] <= 0 and distance:
                logger.warning(
                    "Term %r: after phase %r the student explains nothing of its target (R2 %.3f). More epochs, a higher weight "
                    "or a tap with a finer grid may help.",
                    name,
                    phase.name,
                    value["r2"],
                )

    def _report(self, name: str, kept: float, value: Mapping[str, float]) -> None:
        message = (
            f"The distillation of {name!r} has collapsed: its target kept {kept:.1%} of its variance and "
            f"{value['effective_rank']:.1f} directions, so the teachers teach nothing. A trainable teacher side (fuse: learned) "
            "does this; use fuse: pca."
        )
        if self.strict:
            raise CollapseError(message)
        logger.warning(message)


def _as_it_is(student: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return student, target
