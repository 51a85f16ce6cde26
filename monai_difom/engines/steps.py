"""The loop of trainings that count steps, not epochs."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any

import numpy as np
from tqdm import tqdm


def check_batch(images: Sized, batch_size: int) -> None:
    """Refuse fewer images than one batch."""
    if len(images) < batch_size:
        raise ValueError(
            f"there are {len(images)} images for batches of {batch_size}: give at least as many images, or a smaller "
            "batch_size."
        )


def run_steps(
    trainer: Any,
    advance: Callable[[], float],
    end: int,
    title: str,
    progress: bool = True,
    every: int = 0,
    callback: Callable[[Any], Any] | None = None,
) -> list[float]:
    """Take steps until a trainer has done ``end`` of them.

    Args:
        trainer: has a ``step``, the number of steps done.
        advance: takes one step, counts it and returns its loss.
        end: number of steps after which to stop.
        title: title of the progress bar.
        progress: show it.
        every: call ``callback`` after every so many steps, and after the last; 0 for the last only.
        callback: called with the trainer.

    Returns:
        The losses of this call.
    """
    losses: list[float] = []
    with tqdm(total=end, initial=trainer.step, unit="step", desc=title, disable=not progress) as bar:
        while trainer.step < end:
            losses.append(advance())
            bar.set_postfix(loss=f"{np.mean(losses[-50:]):.4f}", refresh=False)
            bar.update()
            if callback is not None and (trainer.step == end or (every and trainer.step % every == 0)):
                callback(trainer)
    return losses
