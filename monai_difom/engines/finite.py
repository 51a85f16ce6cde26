"""A training whose numbers have left the range of numbers stops before it saves them."""

from __future__ import annotations

import torch
from torch import nn


class NotFiniteError(FloatingPointError):
    """A weight is infinite or not a number."""


def check_weights(modules: dict[str, nn.Module], where: str) -> None:
    """Refuse parameters and running statistics that are infinite or not numbers.

    Args:
        modules: name -> module.
        where: where in the training, and what to do, for the message.

    Raises:
        NotFiniteError: names the first.
    """
    tensors = {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    }
    with torch.no_grad():
        found = [t for t in tensors.values() if t.numel()]
        if not found:
            return
        # the largest of each: a sum of squares could overflow where every number is finite
        largest = torch.stack([n.float().cpu() for n in torch._foreach_norm(found, float("inf"))])
        if bool(torch.isfinite(largest).all()):
            return
    wrong = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    raise NotFiniteError(
        f"{len(wrong)} of {len(tensors)} weights are not finite, the first of {wrong[0]}, {where}"
    )
