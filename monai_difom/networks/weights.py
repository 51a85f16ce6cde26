"""Weight files: read without running code, and checked key by key against the network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..utils import load_state

# where training scripts put the state dict inside a checkpoint, and what wrappers put before every key
_NESTED = ("state_dict", "model_state_dict", "model", "network", "net")
_WRAPPERS = ("module.", "_orig_mod.")


def read_weights(path: str | os.PathLike, where_to_get: str) -> dict[str, torch.Tensor]:
    """Return the plain state dict in a weight file.

    A state dict inside a checkpoint (``{"state_dict": ...}``, ``{"model": ...}``) is found, and the prefixes
    of DataParallel and ``torch.compile`` are taken off.

    Args:
        path: ``.safetensors``, or a ``torch.save`` file that holds tensors only.
        where_to_get: a sentence for the error when there is no such file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds pickled code, is unreadable, or holds no state dict.
    """
    try:
        state = load_state(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error} {where_to_get}") from None
    for key in _NESTED:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
            break
    if not isinstance(state, Mapping) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(
            f"{path} holds {_summary(state)}, not a state dict (parameter name -> tensor). {where_to_get}"
        )
    tensors = {str(key): value for key, value in state.items() if isinstance(value, torch.Tensor)}
    for wrapper in _WRAPPERS:
        if all(key.startswith(wrapper) for key in tensors):
            tensors = {key[len(wrapper) :]: value for key, value in tensors.items()}
    return tensors


def fill_network(
    network: nn.Module,
    state: Mapping[str, torch.Tensor],
    path: str | os.PathLike,
    advice: str,
    allow_other_modules: bool = False,
    assign: bool = False,
) -> None:
    """Load a state dict and refuse anything that does not fit.

    Args:
        network: filled in place.
        state: parameter name -> tensor.
        path: the file that ``state`` came from, for the message.
        advice: what to do about a misfit, for the message.
        allow_other_modules: keys of modules that the network has not (a classifier) are left out. A key that
            a module of the network does not know, as the bias of a convolution without one, is refused all
            the same.
        assign: take the tensors themselves; needed for a network on the meta device.

    Raises:
        ValueError: names the file, the counts and the first keys that are missing, unexpected or of another
            shape.
    """
    wanted = network.state_dict()
    # torch fills this counter itself, and nothing reads it in eval mode
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in wanted]
    if allow_other_modules:
        modules = {name for name, module in network.named_modules() if not isinstance(module, nn.Identity)}
        unexpected = [key for key in unexpected if key.rpartition(".")[0] in modules]
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    if missing or unexpected or shapes:
        parts = [
            f"{len(keys)} {kind} (first: {', '.join(keys[:3])})"
            for kind, keys in (
                ("missing keys", missing),
                ("unexpected keys", unexpected),
                ("wrong shapes", shapes),
            )
            if keys
        ]
        raise ValueError(f"{path} does not fit {type(network).__name__}: {'; '.join(parts)}. {advice}")
    network.load_state_dict({key: state[key] for key in wanted if key in state}, strict=False, assign=assign)


def _summary(state: Any) -> str:
    """Say in a few words what a file held, for messages."""
    if isinstance(state, Mapping):
        return f"a dict with the keys {', '.join(map(str, list(state)[:5])) or 'none'}"
    return f"a {type(state).__name__}"
