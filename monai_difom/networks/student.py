"""What a student is, what a trained one is kept as, and how it is made ready for inference."""

from __future__ import annotations

import os
from collections.abc import Mapping
from copy import deepcopy
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from .lora import adapter_state
from .taps import Tap
from .weights import fill_network


@runtime_checkable
class Student(Protocol):
    """A segmentation network as it is trained, evaluated and exported.

    In eval mode it gives its main output, one tensor of logits ``(B, K, *spatial)``; in train mode it may give the list of
    its side outputs. `as_student` makes one of any network.

    Attributes:
        taps: tap name -> `Tap`, where its feature maps are read.
        divisor: what every side of an image must be a multiple of; 1 where any size works.
        training_only: name prefixes of parameters that the exported network does not have.
    """

    taps: Mapping[str, Tap]
    divisor: int
    training_only: tuple[str, ...]

    def __call__(self, image: torch.Tensor, /) -> torch.Tensor | list[torch.Tensor]:
        """Return the logits of an image batch ``(B, C, *spatial)``."""


class _AnyNetwork:
    """A network that says less of itself than a student does."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.taps: Mapping[str, Tap] = getattr(network, "taps", {})
        self.divisor: int = getattr(network, "divisor", 1)
        self.training_only: tuple[str, ...] = getattr(network, "training_only", ())

    def __call__(self, image: torch.Tensor, /) -> torch.Tensor | list[torch.Tensor]:
        return self.network(image)


def as_student(network: nn.Module) -> Student:
    """Return a network as a student: what it does not state is no tap, any image size, and every parameter exported."""
    return network if isinstance(network, Student) else _AnyNetwork(network)


def network_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return what a trained network is kept as: its state dict without what is used in training only (side latents).

    Of a network with adapters that are the adapters and what was trained in full; its base is where it came from.
    """
    if getattr(network, "lora_settings", None) is not None:
        return adapter_state(network)
    dropped = as_student(network).training_only
    return {key: value for key, value in network.state_dict().items() if not key.startswith(dropped)}


def load_network_state(
    network: nn.Module, state: Mapping[str, torch.Tensor], file: str | os.PathLike, advice: str
) -> None:
    """Fill a network from what `network_state` keeps; what that leaves out stays as it is.

    Args:
        network: changed in place.
        state: the state dict.
        file: where it came from, for messages.
        advice: what to do where it does not fit.

    Raises:
        ValueError: it is of another network; names the keys.
    """
    kept = network_state(network)
    own = {key: value for key, value in network.state_dict().items() if key not in kept}
    fill_network(network, {**own, **state}, file, advice)


def reparameterize(network: nn.Module) -> nn.Module:
    """Return a copy for inference whose parallel branches are folded into one convolution each.

    RepViT, RepVGG and MobileOne train with branches that add up to one convolution; timm folds them. The copy computes
    the same in eval mode; a network without such branches comes back as an equal copy.

    Args:
        network: any student; it is left as it is.
    """
    from timm.utils import reparameterize_model

    return reparameterize_model(deepcopy(network).eval(), inplace=True)
