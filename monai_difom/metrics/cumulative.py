"""The scores of `map_scores` as MONAI metrics, for a MONAI workflow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric
from monai.metrics.utils import do_metric_reduction
from monai.utils import MetricReduction

from ..utils.names import unknown_name
from .evaluator import map_scores
from .scores import SCORES


class ImageScoreMetric(CumulativeIterationMetric):
    """One score of images, per channel, accumulated over batches.

    Give it probabilities, not thresholded masks: half of the scores are of grey levels. Every channel is one
    structure against the rest; leave the background channel out. `torch.Tensor` inputs of any device; the score is
    computed on the CPU.

    Args:
        score: ``dice, iou, precision, recall, mean_dice_256, mean_iou_256, mae, weighted_f, s_measure,
            e_measure_max, e_measure_mean, hd95`` or ``nsd``; see `map_scores` for each and for empty masks. The maximum
            E-measure is each image's own; for that of a set see `AlignmentMetric`.
        threshold: probability from which a pixel is foreground.
        spacing: size of a pixel ``(height, width)`` in millimetres; None measures in pixels.
        tolerance: of ``nsd``, in the unit of the spacing.
        reduction: MONAI's, for `aggregate`.
        get_not_nans: return also the number of values behind each aggregate.

    Raises:
        ValueError: unknown score.
    """

    def __init__(
        self,
        score: str = "dice",
        threshold: float = 0.5,
        spacing: Sequence[float] | None = None,
        tolerance: float = 2.0,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
    ) -> None:
        super().__init__()
        if score not in SCORES:
            raise ValueError(unknown_name("score", score, SCORES))
        self.score = score
        self.options: dict[str, Any] = {"threshold": threshold, "spacing": spacing, "tolerance": tolerance}
        self.reduction, self.get_not_nans = reduction, get_not_nans

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:  # type: ignore[override]
        """Return ``(B, C)`` of maps ``(B, C, H, W)`` in [0, 1] and masks of the same shape."""
        return self._by_channel(y_pred, y, self.score)

    def _by_channel(self, y_pred: torch.Tensor, y: torch.Tensor, key: str) -> torch.Tensor:
        if y_pred.ndim != 4 or y_pred.shape != y.shape:
            raise ValueError(
                f"maps are {tuple(y_pred.shape)} and masks {tuple(y.shape)}; allowed is (B, C, H, W) for both."
            )
        # half precision has no 256 even levels
        maps = (y_pred.float() if y_pred.is_floating_point() else y_pred).detach().cpu().numpy()
        maps = maps.astype(np.float32) if maps.dtype.kind == "i" else maps
        masks = y.detach().cpu().numpy()
        found = [
            [map_scores(p, m, scores=(self.score,), **self.options)[key] for p, m in zip(*pair, strict=True)]
            for pair in zip(maps, masks, strict=True)
        ]
        return torch.as_tensor(np.asarray(found), dtype=torch.float32, device=y_pred.device)

    def aggregate(
        self, reduction: MetricReduction | str | None = None
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Return the values of all images so far, reduced.

        Args:
            reduction: instead of the one of the constructor.
        """
        values, counted = do_metric_reduction(self._buffer(), reduction or self.reduction)
        return (values, counted) if self.get_not_nans else values

    def _buffer(self) -> torch.Tensor:
        data = self.get_buffer()
        if not isinstance(data, torch.Tensor):
            raise ValueError("nothing to aggregate: call the metric on maps and masks first.")
        return data


class AlignmentMetric(ImageScoreMetric):
    """The E-measure of a set: the mean curve over images, and of it the maximum or the mean over thresholds.

    Args:
        over_thresholds: ``"max"`` (the field's maximum E-measure) or ``"mean"``.

    Raises:
        ValueError: another choice.
    """

    def __init__(self, over_thresholds: str = "max") -> None:
        if over_thresholds not in ("max", "mean"):
            raise ValueError(f"over_thresholds is {over_thresholds!r}; allowed are 'max' and 'mean'.")
        super().__init__("e_measure_max")
        self.over_thresholds = over_thresholds

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor, **kwargs: Any) -> torch.Tensor:  # type: ignore[override]
        """Return the curves ``(B, C, 256)``."""
        return self._by_channel(y_pred, y, "e_curve")

    def aggregate(self, reduction: MetricReduction | str | None = None) -> torch.Tensor:
        """Return the mean over structures; ``"none"`` or ``"mean_batch"`` return one value per structure."""
        curve = self._buffer().mean(0)
        values = curve.amax(-1) if self.over_thresholds == "max" else curve.mean(-1)
        return values if reduction in ("none", "mean_batch") else values.mean()
