"""The loop of trainings that count steps, not epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sized
from functools import partial
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..utils import Readings

READ_EVERY = 50


def check_batch(images: Sized, batch_size: int) -> None:
    """Refuse fewer images than one batch."""
    if len(images) < batch_size:
        raise ValueError(
            f"there are {len(images)} images for batches of {batch_size}: give at least as many images, or a smaller "
            "batch_size."
        )


def run_steps(
    trainer: Any,
    advance: Callable[[], torch.Tensor],
    end: int,
    title: str,
    progress: bool = True,
    every: int = 0,
    callback: Callable[[Any], Any] | None = None,
    joined: bool = False,
) -> list[float]:
    """Take steps until a trainer has done ``end`` of them.

    Losses are read every 50 steps, before every call of ``callback`` and at the end: no other step waits for the device.

    Args:
        trainer: has a ``step``, the number of steps done.
        advance: takes one step, counts it and returns its loss, on the device.
        end: number of steps after which to stop.
        title: title of the progress bar.
        progress: show it.
        every: call ``callback`` after every so many steps, and after the last; 0 for the last only.
        callback: called with the trainer.
        joined: all processes of the run take these steps together, and the mean of their losses counts.

    Returns:
        The losses of this call.

    Raises:
        FloatingPointError: a loss is not finite; names the step.
    """
    losses: list[float] = []
    readings = Readings(joined)

    def take(step: int, numbers: list[float]) -> None:
        if not math.isfinite(numbers[0]):
            raise FloatingPointError(
                f"{title}: the loss is {numbers[0]} at step {step}. Lower learning_rate."
            )
        losses.append(numbers[0])

    with tqdm(total=end, initial=trainer.step, unit="step", desc=title, disable=not progress) as bar:
        while trainer.step < end:
            step = trainer.step
            readings.add(advance(), partial(take, step))
            due = trainer.step == end or bool(every and trainer.step % every == 0)
            if due or trainer.step % READ_EVERY == 0:
                readings.read()
                bar.set_postfix(loss=f"{np.mean(losses[-READ_EVERY:]):.4f}", refresh=False)
            bar.update()
            if due and callback is not None:
                callback(trainer)
    return losses
