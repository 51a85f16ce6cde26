"""Weight averaging: a moving mean of all that a student has learned, which often predicts better than its last weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class WeightAverage:
    r"""Exponential moving average (EMA) of a module's parameters and buffers (Tarvainen and Valpola, NeurIPS 2017).

    .. math:: \bar w_t = d_t \bar w_{t-1} + (1 - d_t) w_t, \qquad d_t = \min\bigl(d, \tfrac{1 + t}{10 + t}\bigr)

    The smaller factor of the first steps keeps the mean of a short training from being its start. Statistics of batch norms are
    averaged alike; whole numbers are taken over. `torch.optim.swa_utils.AveragedModel` has no such start, and truncates
    whole numbers.

    Args:
        module: what is averaged; keeps its own weights until `show`.
        decay: d, in (0, 1); 0.999 averages over about the last 1000 steps.

    Raises:
        ValueError: a decay outside (0, 1).
    """

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        if not 0 < decay < 1:
            raise ValueError(
                f"ema is {decay}; allowed is a number between 0 and 1, such as 0.999, or null for none."
            )
        self.module, self.decay = module, float(decay)
        self.restart()

    def _tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield from self.module.named_parameters()
        yield from self.module.named_buffers()

    def tensors(self) -> list[torch.Tensor]:
        """Return the averages, in a fixed order."""
        return list(self._mean.values())

    @torch.no_grad()
    def update(self) -> None:
        """Take the module's weights of now into the mean; call it after every step of the optimiser."""
        keep = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        means, values = [], []
        for name, value in self._tensors():
            if value.is_floating_point():
                means.append(self._mean[name])
                values.append(value.detach())
            else:
                self._mean[name].copy_(value)
        get_ema_multi_avg_fn(keep)(means, values, self.steps)

    def restart(self) -> None:
        """Begin anew with the module's weights of now, where and in the memory layout that they are."""
        self.steps, self.shown = 0, False
        self._mean = {name: tensor.detach().clone() for name, tensor in self._tensors()}

    def show(self, average: bool = True) -> None:
        """Give the module its averaged weights, or its own back; the parameters stay the same objects."""
        if average == self.shown:
            return
        for name, tensor in self._tensors():
            tensor.data, self._mean[name] = self._mean[name], tensor.data
        self.shown = average

    @contextmanager
    def own_weights(self) -> Iterator[None]:
        """Have the module's own weights in it for a while."""
        shown = self.shown
        self.show(False)
        try:
            yield
        finally:
            self.show(shown)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages and the number of steps, to be called within `own_weights`."""
        return {"steps": self.steps, "mean": dict(self._mean)}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up the averages of an interrupted run."""
        self.steps = int(state["steps"])
        for name, value in state["mean"].items():
            self._mean[name].copy_(value)
