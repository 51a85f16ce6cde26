"""Numbers that all processes of a run share."""

from __future__ import annotations

import torch
import torch.distributed as distributed


def mean_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of a tensor over all processes of the run, with this process's own gradient.

    The number is the mean; the gradient is that of ``values``. What is computed from it is therefore the same on every
    process, and averaging the processes' gradients, as data-parallel training does, gives the gradient of the mean.

    Args:
        values: tensor of the same shape on every process. Alone in its run, a process gets it back as it is.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return values
    mean = values.detach().clone()
    distributed.all_reduce(mean)
    mean /= distributed.get_world_size()
    return values + (mean - values.detach()) if values.requires_grad else mean
