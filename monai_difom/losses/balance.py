"""Balancers: a dict of loss terms in, a dict of weights out.

A balancer only says how terms compare; the phase's own weights multiply what it returns.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


class UniformBalancer(nn.Module):
    """Every term counts as it is: weight 1."""

    def forward(self, losses: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return term -> weight (a scalar tensor without gradient)."""
        return {name: torch.ones_like(value.detach()) for name, value in losses.items()}
