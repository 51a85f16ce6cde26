"""All that learns in one module, which several processes train with PyTorch's `DistributedDataParallel`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..utils import world_size


class Learner(nn.Module):
    """Every module that learns, with a whole step's forward pass: a batch in, the number that is minimised out.

    Of several processes, each gets the mean of all gradients while its backward pass is still running. What has a gradient
    changes from phase to phase (frozen modules) and within one (a term whose weight starts at 0), so the loss is computed in
    here and nothing else is returned: PyTorch then finds from the loss alone what this step leaves without a gradient, and
    leaves it without one. The modules stay what they are: names, taps and checkpoints know nothing of the wrapper.

    Args:
        score: batch -> the number that is minimised, a scalar.
        modules: those that learn.
        parameters: further parameters that do.
    """

    def __init__(
        self,
        score: Callable[[Any], torch.Tensor],
        modules: Iterable[nn.Module],
        parameters: Iterable[nn.Parameter] = (),
    ) -> None:
        super().__init__()
        self.score = score
        self.learned = nn.ModuleList(modules)
        known = {id(parameter) for parameter in self.learned.parameters()}
        self.others = nn.ParameterList(p for p in parameters if id(p) not in known)
        self._shared: DistributedDataParallel | None = None
        self._names: tuple[str, ...] = ()

    def forward(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch."""
        return self.score(batch)

    def prepare(self) -> None:
        """Share the parameters that have a gradient now; call it whenever some are frozen or learn again."""
        if world_size() == 1:
            return
        names = tuple(name for name, parameter in self.named_parameters() if parameter.requires_grad)
        if self._shared is not None and names == self._names:
            return
        if self._shared is not None:
            self._shared._remove_autograd_hooks()  # else they fire until the garbage collector comes by
        self._names = names
        # Parameters are equal at the start of a run, batch norm's statistics are averaged by epoch. As unused parameters are
        # looked for, the buckets keep the order of the parameters: a resumed run adds up the same numbers in the same order.
        shared = DistributedDataParallel(
            self,
            broadcast_buffers=False,
            init_sync=False,
            find_unused_parameters=True,
            gradient_as_bucket_view=True,
        )
        object.__setattr__(self, "_shared", shared)  # the wrapper of a module is no part of it

    def loss(self, batch: Any) -> torch.Tensor:
        """Return the loss of a batch, ready for ``backward``."""
        return self(batch) if self._shared is None else self._shared(batch)

    def alone(self) -> AbstractContextManager:
        """Return a context in which a step, forward and backward, adds to the gradients of this process only."""
        return nullcontext() if self._shared is None else self._shared.no_sync()
