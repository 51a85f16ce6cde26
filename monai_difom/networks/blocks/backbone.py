"""The encoder of a student, taken out as a backbone for other students and put back in."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import nn

from ..weights import fill_network, read_weights

ENCODER = "encoder"


def encoder_tensors(state: Mapping[str, torch.Tensor], module: str = ENCODER) -> dict[str, torch.Tensor]:
    """Return the encoder's own state dict out of a student's: the keys below a module, without its name.

    Where the encoder is a timm network, these are timm's keys.

    Args:
        state: state dict of a student.
        module: dotted path of the encoder in the student.

    Raises:
        ValueError: there is no such module; names the modules that there are.
    """
    found = {
        key.removeprefix(module + "."): value for key, value in state.items() if key.startswith(module + ".")
    }
    if not found:
        there = sorted({key.split(".")[0] for key in state})
        raise ValueError(
            f"the student has no module {module!r}; its parts are {', '.join(there) or 'none'}. Name the one that is "
            "the encoder."
        )
    return found


def load_backbone(encoder: nn.Module, file: str | os.PathLike) -> None:
    """Fill an encoder from a file of `export --encoder-only`, key by key.

    Args:
        encoder: module of the same architecture.
        file: ``.safetensors`` or ``.pt`` that holds the encoder alone.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another encoder; says what differs.
    """
    state = read_weights(file, "Make one with `python -m monai_difom export --encoder-only`.")
    advice = (
        "Is it the encoder of such a student? Build it with the arguments that stand in the file's metadata."
    )
    fill_network(encoder, state, file, advice)
