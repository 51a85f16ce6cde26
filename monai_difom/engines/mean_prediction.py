"""Several networks that speak with one voice: the mean of their probabilities, over dihedral views too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..transforms import apply_view, invert_view


class MeanPrediction(nn.Module):
    """Mean probability of networks and views, given as logits, so that it is scored like a single network.

    Args:
        networks: networks that give logits ``(B, K, H, W)`` of one channel per structure (sigmoid).
        views: numbers of the dihedral views, see `monai_difom.transforms.VIEWS`; those from 4 need square images.

    Raises:
        ValueError: no network or no view.

    Example:
        >>> mean = MeanPrediction([nn.Conv2d(3, 1, 1), nn.Conv2d(3, 1, 1)], views=range(8))
        >>> mean(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 1, 32, 32])
    """

    def __init__(self, networks: Sequence[nn.Module], views: Sequence[int] = (0,)) -> None:
        super().__init__()
        if not networks or not views:
            raise ValueError("a mean prediction needs at least one network and one view.")
        self.networks = nn.ModuleList(networks)
        self.views = tuple(int(view) for view in views)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits ``(B, K, H, W)`` of an image ``(B, C, H, W)``."""
        total: torch.Tensor | None = None
        for network in self.networks:
            for view in self.views:
                # the view's copy in memory: networks are slow on flipped strides
                logits = network(apply_view(x, view).contiguous())
                found = invert_view(torch.sigmoid(logits.float()), view)
                total = found if total is None else total + found
        assert total is not None
        return torch.logit(total / (len(self.networks) * len(self.views)), eps=1e-6)
