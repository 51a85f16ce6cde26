"""Blocks of the EMCAD decoder (Rahman et al., CVPR 2024)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from monai.networks.layers.utils import get_act_layer
from torch import nn


def shuffle_channels(x: torch.Tensor, groups: int) -> torch.Tensor:
    """Deal the channels out: the first of every group, then the second of every group, and so on."""
    batch, channels, height, width = x.shape
    dealt = x.reshape(batch, groups, channels // groups, height, width).transpose(1, 2)
    return dealt.reshape(batch, channels, height, width)


class MultiScaleConv(nn.Module):
    """Inverted bottleneck whose depthwise convolutions of several sizes run side by side and are added (MSCB).

    Args:
        channels: channels of input and output.
        kernel_sizes: odd sides of the depthwise kernels.
        expansion: factor on the channels inside.
        act: MONAI activation.
    """

    def __init__(self, channels: int, kernel_sizes: Sequence[int], expansion: int, act: str | tuple) -> None:
        super().__init__()
        inside = channels * expansion
        self.groups = math.gcd(inside, channels)
        self.expand = nn.Sequential(
            nn.Conv2d(channels, inside, 1, bias=False), nn.BatchNorm2d(inside), get_act_layer(act)
        )
        self.depthwise = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inside, inside, size, padding=size // 2, groups=inside, bias=False),
                nn.BatchNorm2d(inside),
                get_act_layer(act),
            )
            for size in kernel_sizes
        )
        self.project = nn.Sequential(nn.Conv2d(inside, channels, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a map of the same shape."""
        wide = self.expand(x)
        total = torch.zeros_like(wide)
        for branch in self.depthwise:
            total = total + branch(wide)
        return x + self.project(shuffle_channels(total, self.groups))


class ChannelAttention(nn.Module):
    """Weighs every channel by its mean and its maximum (CAB).

    Args:
        channels: channels of the map.
        reduction: factor by which the inner layer is narrower.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        inside = channels // min(reduction, channels)
        self.fc1 = nn.Conv2d(channels, inside, 1, bias=False)
        self.fc2 = nn.Conv2d(inside, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the weighted map."""
        mean = self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1))))
        maximum = self.fc2(F.relu(self.fc1(F.adaptive_max_pool2d(x, 1))))
        return torch.sigmoid(mean + maximum) * x


class SpatialAttention(nn.Module):
    """Weighs every position by the mean and the maximum of its channels (SAB).

    Args:
        kernel_size: odd side of the kernel.
    """

    def __init__(self, kernel_size: int = 7) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the weighted map."""
        pooled = torch.cat([x.mean(1, keepdim=True), torch.max(x, 1, keepdim=True)[0]], 1)
        return torch.sigmoid(self.conv(pooled)) * x


class UpConv(nn.Module):
    """Nearest upsampling by two, a depthwise 3x3 and a 1x1 convolution (EUCB).

    The published block also shuffles between the two in as many groups as there are channels, which moves
    nothing.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Sequential(
            nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False),
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
        )
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(B, out_channels, 2H, 2W)``."""
        return self.pointwise(self.depthwise(F.interpolate(x, scale_factor=2.0, mode="nearest")))


class AttentionGate(nn.Module):
    """Lets through of a skip connection what the decoder's map asks for (LGAG).

    Args:
        channels: channels of both maps; even.
        kernel_size: side of the grouped kernels; 1 makes them dense.
    """

    def __init__(self, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        inside = channels // 2
        groups = 1 if kernel_size == 1 else inside

        def grouped() -> nn.Sequential:
            conv = nn.Conv2d(channels, inside, kernel_size, padding=kernel_size // 2, groups=groups)
            return nn.Sequential(conv, nn.BatchNorm2d(inside))

        self.gate = grouped()
        self.skip = grouped()
        self.weight = nn.Sequential(nn.Conv2d(inside, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, gate: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Return ``skip`` weighted by position."""
        return skip * self.weight(F.relu(self.gate(gate) + self.skip(skip)))
