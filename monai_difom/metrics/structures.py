"""Dice of every structure during training, over the images where it was annotated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from ignite.metrics import Metric

from ..losses.annotated import annotated_channels


class StructureDice(Metric):
    """Mean Dice per structure, and the mean of the structures, as the key metric of an evaluator.

    Per image and structure; both empty is 1, one of the two empty is 0. Channels that are `MISSING` in an image do not
    count, and a structure that is annotated nowhere does not count in the mean.

    After an epoch the engine's metrics hold the mean under the metric's name and, of several structures, ``<name>/<structure>``
    for each.

    Args:
        structures: names of the channels.
        output_transform: gives ``(predictions, labels)``, lists of ``(K, *spatial)`` or batches; predictions are 0 or 1.
    """

    def __init__(self, structures: Sequence[str], output_transform: Callable = lambda output: output) -> None:
        self.structures = list(structures)
        super().__init__(output_transform)

    def reset(self) -> None:
        """Forget all images."""
        self._sum = torch.zeros(len(self.structures), dtype=torch.float64)
        self._count = torch.zeros(len(self.structures), dtype=torch.float64)

    def update(self, output: tuple[Any, Any]) -> None:
        """Take a batch in.

        Raises:
            ValueError: the channels are not the structures.
        """
        for prediction, label in zip(*output, strict=True):
            if prediction.shape != label.shape or len(label) != len(self.structures):
                raise ValueError(
                    f"prediction {tuple(prediction.shape)} and masks {tuple(label.shape)}; both need one channel for each "
                    f"of the {len(self.structures)} structures."
                )
            known = annotated_channels(label[None])[0].cpu()
            p, m = (prediction > 0.5).flatten(1), (label > 0.5).flatten(1)
            both, sizes = (p & m).sum(1).double().cpu(), (p.sum(1) + m.sum(1)).double().cpu()
            dice = torch.where(sizes > 0, 2 * both / sizes.clamp_min(1), 1.0)
            self._sum += torch.where(known, dice, 0.0)
            self._count += known

    def compute(self) -> float:
        """Return the mean over the structures that were annotated anywhere; NaN when none was."""
        seen = self._count > 0
        return float((self._sum[seen] / self._count[seen]).mean())

    def completed(self, engine: Engine, name: str) -> None:
        """Write the mean and every structure's Dice into the engine's metrics."""
        super().completed(engine, name)
        if len(self.structures) == 1:
            return
        for structure, total, count in zip(self.structures, self._sum, self._count, strict=True):
            if count > 0:
                engine.state.metrics[f"{name}/{structure}"] = float(total / count)
