"""The processes of one run: how many there are, which one this is, and numbers and tensors that all of them share.

Everything here does nothing in a run of one process.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from functools import wraps
from typing import Any, TypeVar, cast

import torch
import torch.distributed as distributed
from torch import nn

Function = TypeVar("Function", bound=Callable[..., Any])
Items = TypeVar("Items")


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def world_size() -> int:
    """Return the number of processes of the run."""
    return distributed.get_world_size() if _together() else 1


def own_rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if _together() else 0


def is_main_rank() -> bool:
    """Return whether this process writes the files of the run."""
    return own_rank() == 0


def own_device() -> torch.device:
    """Return the GPU of this process, as ``torchrun`` numbers it on its machine; the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def start_ranks(device: torch.device | str = "cpu") -> None:
    """Join the processes that ``torchrun`` has started: over NCCL on GPUs, over gloo on CPUs.

    Does nothing in a process that was started alone, and where the group exists already. Processes other than the first log
    warnings only.

    Args:
        device: where this process computes, see `own_device`.
    """
    if "WORLD_SIZE" not in os.environ or _together():
        return
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # tensors on the CPU (statistics of the teachers' maps) go over gloo in any case
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    # the others wait while the first one scores the test sets, or draws a transfer set
    distributed.init_process_group(backend, timeout=timedelta(days=2))
    if not is_main_rank():
        logging.getLogger().setLevel(logging.WARNING)


def stop_ranks() -> None:
    """Leave the group of `start_ranks`."""
    if _together():
        distributed.destroy_process_group()


def all_ranks_here() -> None:
    """Wait until every process of the run has come this far."""
    if _together():
        distributed.barrier()


def main_rank_only(function: Function) -> Function:
    """Make a function that writes files do nothing, and return None, in every process but the first.

    Its arguments are evaluated everywhere: they must be cheap, or results of other such functions.
    """

    @wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) if is_main_rank() else None

    return cast(Function, guarded)


def own_share(items: Sequence[Items]) -> list[Items]:
    """Return every n-th of some items, beginning with this process's number: no item is in two shares.

    Raises:
        ValueError: a process would get none.
    """
    if len(items) < world_size():
        raise ValueError(
            f"{len(items)} item(s) cannot be shared by {world_size()} processes: each needs at least one. Start fewer "
            "processes (--nproc_per_node), or give more images."
        )
    return list(items[own_rank() :: world_size()])


def share_of(count: int) -> int:
    """Return how many of the first ``count`` items of an interleaved order are this process's."""
    return len(range(own_rank(), count, world_size()))


def _on_wire(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous copy of a tensor on a device that the group can send from."""
    nccl_alone = "gloo" not in str(distributed.get_backend_config()) and tensor.device.type == "cpu"
    return (tensor.detach().to(own_device()) if nccl_alone else tensor.detach()).contiguous().clone()


def mean_over_ranks(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of a tensor over all processes of the run, with this process's own gradient.

    The number is the mean; the gradient is that of ``values``. What is computed from it is therefore the same on every
    process, and averaging the processes' gradients, as data-parallel training does, gives the gradient of the mean.

    Args:
        values: tensor of the same shape on every process. Alone in its run, a process gets it back as it is.
    """
    if world_size() == 1:
        return values
    mean = values.detach().clone()
    distributed.all_reduce(mean)
    mean /= distributed.get_world_size()
    return values + (mean - values.detach()) if values.requires_grad else mean


def of_all_ranks(values: torch.Tensor) -> list[torch.Tensor]:
    """Return a tensor of every process, in the order of their numbers; the shapes are equal."""
    if world_size() == 1:
        return [values]
    sent = _on_wire(values)
    found = [torch.empty_like(sent) for _ in range(world_size())]
    distributed.all_gather(found, sent)
    return [each.to(values.device) for each in found]


def average_in_place(tensors: Iterable[torch.Tensor | None]) -> None:
    """Replace tensors by their means over all processes, in one message for each type of number.

    Args:
        tensors: the same on every process, by shape and order; None and integers are passed over.
    """
    if world_size() == 1:
        return
    groups: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
    for tensor in tensors:
        if tensor is not None and tensor.is_floating_point():
            groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    with torch.no_grad():
        for same in groups.values():
            joined = _on_wire(torch.cat([tensor.reshape(-1) for tensor in same]))
            distributed.all_reduce(joined)
            joined /= world_size()
            sizes = [tensor.numel() for tensor in same]
            for tensor, mean in zip(same, joined.split(sizes), strict=True):
                tensor.copy_(mean.view_as(tensor))


def copy_from_main(*modules: nn.Module) -> None:
    """Give every process the parameters and buffers that the first one has."""
    if world_size() == 1:
        return
    with torch.no_grad():
        for module in modules:
            for tensor in [*module.parameters(), *module.buffers()]:
                sent = _on_wire(tensor)
                distributed.broadcast(sent, 0)
                tensor.copy_(sent)
