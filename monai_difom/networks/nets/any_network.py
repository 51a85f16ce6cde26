"""Any segmentation network as a student, in configuration alone.

::

    network_def:
      _target_: monai_difom.networks.nets.tapped
      network: {_target_: monai.networks.nets.BasicUNet, spatial_dims: 2, in_channels: 3, out_channels: 1}
      taps: {bottleneck: down_4, stride8: down_3}
      divisor: 16

``python -m monai_difom taps FILE`` prints the modules that can be named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ..student import as_student
from ..taps import evaluating, first_convolution, probe_taps


def tapped(
    network: nn.Module,
    taps: Mapping[str, str],
    divisor: int = 1,
    probe_size: int | Sequence[int] = 64,
    spatial_dims: int | None = None,
    in_channels: int | None = None,
) -> nn.Module:
    """Return a network as a student: the same object with the attributes of a `Student`.

    Nothing else changes: modules, parameter names and function stay those of the network.

    Args:
        network: called as ``network(image)``; gives one tensor of logits in eval mode. Put one that gives a list into a
            `MainOutput`.
        taps: tap name -> dotted module path, with ``[i]`` for one map of a module that gives several. ``bottleneck`` and
            ``stride8`` are the names that the polyp bundle reads.
        divisor: sides of an image must be multiples of it; the bundles refuse other sizes with the nearest.
        probe_size: side, or one per axis, of the image that finds channels and strides; one that the network takes.
        spatial_dims: 2 or 3; None takes that of the first convolution.
        in_channels: channels of the image; None takes those of the first convolution.

    Raises:
        ValueError: a path names no module, or one that gives no feature map; or the output is no single tensor.
    """
    if spatial_dims is None or in_channels is None:
        first = first_convolution(network)
        spatial_dims, in_channels = spatial_dims or first[0], in_channels or first[1]
    sides = [probe_size] * spatial_dims if isinstance(probe_size, int) else list(probe_size)
    image = torch.zeros(1, in_channels, *sides)
    found = probe_taps(network, taps, image)
    with evaluating(network):
        output = network(image)
    if not isinstance(output, torch.Tensor):
        raise ValueError(
            f"{type(network).__name__} gives a {type(output).__name__} in eval mode; a student gives one tensor of logits. "
            "Put it into monai_difom.networks.nets.MainOutput."
        )
    # plain attributes: a network's own class knows nothing of them
    network.taps = found  # type: ignore[assignment]
    network.divisor = int(divisor)  # type: ignore[assignment]
    network.training_only = as_student(network).training_only  # type: ignore[assignment]
    return network


class MainOutput(nn.Module):
    """A network of several outputs that gives one tensor in eval mode.

    Takes what networks with deep supervision give: a list or tuple of logits (`BasicUNetPlusPlus`, `SegResNetDS`), or one
    tensor of stacked outputs ``(B, heads, C, *spatial)`` (`DynUNet` in training). Modules and parameters of the network
    have ``network.`` before their name.

    Args:
        network: called as ``network(image)``.
        main: which output counts, from 0, or from -1 backwards: the last of `BasicUNetPlusPlus`, else mostly the first.
        deep_supervision: in training mode give the list of all outputs, the main one first. False gives the main one
            alone in both modes.

    Raises:
        ValueError: in ``forward``, when there is no such output.
    """

    def __init__(self, network: nn.Module, main: int = 0, deep_supervision: bool = False) -> None:
        super().__init__()
        self.network = network
        self.main = main
        self.deep_supervision = deep_supervision

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Return logits ``(B, K, *spatial)``, or the list of them."""
        found = self.network(x)
        if isinstance(found, torch.Tensor):
            # stacked heads have one axis more than the image
            outputs = list(found.unbind(1)) if found.ndim == x.ndim + 1 else [found]
        else:
            outputs = list(found)
        if len(outputs) == 1:  # in eval mode most networks give one
            return outputs if self.training and self.deep_supervision else outputs[0]
        if not -len(outputs) <= self.main < len(outputs):
            raise ValueError(
                f"main is {self.main}; {type(self.network).__name__} gives {len(outputs)} outputs."
            )
        main = outputs[self.main]
        if not (self.training and self.deep_supervision):
            return main
        return [main, *(output for output in outputs if output is not main)]
