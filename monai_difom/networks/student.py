"""What a trained student is kept as, and how it is made ready for inference."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from .lora import adapter_state


def network_state(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return what a trained network is kept as: its state dict without what is used in training only (side latents).

    Of a network with adapters that are the adapters and what was trained in full; its base is where it came from.
    """
    if getattr(network, "lora_settings", None) is not None:
        return adapter_state(network)
    dropped = tuple(getattr(network, "training_only", ()))
    return {
        key: value for key, value in network.state_dict().items() if not (dropped and key.startswith(dropped))
    }


def reparameterize(network: nn.Module) -> nn.Module:
    """Return a copy for inference whose parallel branches are folded into one convolution each.

    RepViT, RepVGG and MobileOne train with branches that add up to one convolution; timm folds them. The copy computes
    the same in eval mode; a network without such branches comes back as an equal copy.

    Args:
        network: any student; it is left as it is.
    """
    from timm.utils import reparameterize_model

    return reparameterize_model(deepcopy(network).eval(), inplace=True)
