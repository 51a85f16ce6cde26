"""Inherited weights: a small network starts with a part of a bigger one's of the same family."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import nn

from ..utils import unknown_name
from .weights import fill_network, read_weights

SELECTIONS = ("uniform", "first")


def select_weights(
    state: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor], how: str = "uniform"
) -> dict[str, torch.Tensor]:
    """Cut a bigger network's weights to a smaller network of the same family (Xu et al., ICLR 2024, "weight selection").

    Layers are matched by name, so that of more layers the first ones are taken. Which channels are taken depends on the two
    widths alone: what one layer gives is what the next one reads. Statistics of batch norms go with their channels.

    Args:
        state: parameter name -> tensor of the bigger network; names that `wanted` has not are left out.
        wanted: parameter name -> tensor of the smaller network, for the shapes.
        how: ``"uniform"``, evenly spaced channels (the best in the paper), or ``"first"``.

    Returns:
        Parameter name -> tensor of the wanted shape, for the names that both have.

    Raises:
        ValueError: no such selection, a tensor that is not bigger, or another kernel size; names the first.
    """
    if how not in SELECTIONS:
        raise ValueError(unknown_name("selection of weights", how, SELECTIONS))
    cut = {}
    for name, small in wanted.items():
        big = state.get(name)
        if big is None:
            continue
        given, needed = tuple(big.shape), tuple(small.shape)
        fits = len(given) == len(needed) and all(b >= s for b, s in zip(given[:2], needed[:2], strict=False))
        if not fits or given[2:] != needed[2:]:
            raise ValueError(
                f"{name} is {given} in the file and {needed} here: weights are inherited from a network of the same family that "
                "has as many channels or more in every layer, and the same kernels."
            )
        for axis, (b, s) in enumerate(zip(given[:2], needed[:2], strict=True)):
            if b != s:
                chosen = torch.arange(s) * b // s if how == "uniform" else torch.arange(s)
                big = big.index_select(axis, chosen)
        cut[name] = big.clone()
    return cut


def inherit_weights(network: nn.Module, weights: str | os.PathLike, how: str = "uniform") -> None:
    """Give a network a part of the weights of a bigger one: the whole network, as a start for its training.

    Args:
        network: filled in place, for example ``DifomUNet(features=(16, 32, 64, 128, 192))``.
        weights: weight file of a bigger one, for example the ``model.pt`` of a run with ``features: [32, 64, 128, 256, 384]``.
        how: see `select_weights`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is of another family; says what does not fit.
    """
    state = read_weights(weights, "It is the weight file of a bigger network of the same family.")
    cut = select_weights(state, network.state_dict(), how)
    fill_network(
        network, cut, weights, "Inherit from a network of the same family, with as many layers or more."
    )
