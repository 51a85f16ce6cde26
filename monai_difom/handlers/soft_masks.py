"""Whether the student says what the soft masks say, and whether these say anything."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents

from ..engines.trainer import DistillationTrainer
from ..targets.standardize import StreamingCovariance
from .collapse_figures import figures


class SoftMaskFit:
    """Measures, in the last epoch of every phase that learns masks, how much of the soft masks the student explains.

    ``r2`` is the share of the variance of the target (over pixels of augmented training images with a soft mask) that the
    student's probability explains. Soft masks that are constant have no variance, and count as collapsed.

    Args:
        results: where the figures are written, under ``soft_masks``: ``r2, target_variance, effective_rank, collapsed, epoch,
            phase``.
        min_variance: variance under which the target counts as constant.
    """

    def __init__(self, results: dict[str, dict[str, Any]], min_variance: float = 1e-5) -> None:
        self.results, self.min_variance = results, min_variance
        self._target: StreamingCovariance | None = None
        self._error = 0.0

    def attach(self, engine: DistillationTrainer) -> None:
        """Register with a trainer; attach it before the handlers that read the results."""
        self.trainer = engine
        engine.add_event_handler(Events.EPOCH_STARTED, self._started)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._completed)

    def _last(self) -> bool:
        phase = self.trainer.plan.ends().get(self.trainer.state.epoch)
        return phase is not None and phase.uses("segmentation")

    def _started(self) -> None:
        self._target, self._error = None, 0.0

    @torch.no_grad()
    def _collect(self) -> None:
        if not self._last():
            return
        output = self.trainer.state.output
        label, found = output["label"], output["pred"]  # type: ignore[index, call-overload]
        rows = ((label > 0) & (label < 1)).flatten(1).any(1)
        if not rows.any():
            return
        logits = found if isinstance(found, torch.Tensor) else found[0]
        target, said = label[rows].float(), torch.sigmoid(logits[rows].float())
        if self._target is None:
            self._target = StreamingCovariance(target.shape[1])
        self._target.update(target)
        self._error += float((said.double() - target.double()).pow(2).sum())

    def _completed(self) -> None:
        if self._target is None or not self._last():
            return
        value = figures(self._target, self._error)
        self.results["soft_masks"] = {
            **value,
            "collapsed": value["target_variance"] < self.min_variance,
            "epoch": self.trainer.state.epoch,
            "phase": self.trainer.phase.name,
        }
