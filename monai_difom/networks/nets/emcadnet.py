"""EMCADNet student, and the published checkpoint that it loads."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from ..blocks import check_input_size, make_latents, upsample_like
from ..blocks.emcad import AttentionGate, ChannelAttention, MultiScaleConv, SpatialAttention, UpConv
from ..blocks.latents import LatentMode, latent_taps
from ..encoders import Pretrained, encoder_channels, load_encoder
from ..taps import Tap
from ..weights import load_published, read_weights

_STRIDES = (32, 16, 8, 4)


class EMCADDecoder(nn.Module):
    """Attention and multi-scale convolutions at four strides, deepest first, with gated skip connections.

    Args:
        channels: channels of the encoder's maps at strides 32, 16, 8 and 4.
        kernel_sizes: depthwise kernels of the multi-scale convolutions.
        expansion: factor on the channels inside these.
        gate_kernel_size: side of the gates' kernels.
        act: activation of the multi-scale convolutions; the rest of the decoder has ReLU.
    """

    def __init__(
        self,
        channels: Sequence[int],
        kernel_sizes: Sequence[int],
        expansion: int,
        gate_kernel_size: int,
        act: str | tuple,
    ) -> None:
        super().__init__()
        self.channel = nn.ModuleList(ChannelAttention(width) for width in channels)
        self.spatial = SpatialAttention()  # one for all strides
        self.scales = nn.ModuleList(MultiScaleConv(width, kernel_sizes, expansion, act) for width in channels)
        self.ups = nn.ModuleList(UpConv(before, width) for before, width in pairwise(channels))
        self.gates = nn.ModuleList(AttentionGate(width, gate_kernel_size) for width in channels[1:])
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, deep: torch.Tensor, skips: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return one map a stride, deepest first.

        Args:
            deep: the encoder's last map.
            skips: its maps at strides 16, 8 and 4.
        """
        x = deep
        found: list[torch.Tensor] = []
        # all but the last stride go up: the shorter lists end the loop
        stages = zip(self.channel, self.scales, self.ups, self.gates, strict=False)
        for i, (channel, scale, up, gate) in enumerate(stages):
            x = scale(self.spatial(channel(x)))
            found.append(x)
            x = up(x)
            x = x + gate(x, skips[i])
        found.append(self.scales[-1](self.spatial(self.channel[-1](x))))
        return found


class EMCADNet(nn.Module):
    """EMCADNet (Rahman et al., CVPR 2024): PVTv2 encoder, EMCAD decoder, a head at each of four strides; 2D.

    The defaults compute the function of the published network with PVTv2-B2, and take its weights with
    `load_published_emcadnet`.

    Args:
        spatial_dims: 2; the encoder has no 3D form.
        in_channels: channels of the image. With 1 or 3 the network has the published layer from one channel
            to three in front of an RGB encoder, and a network of 3 takes grey images as well; with any other
            number the encoder's first layer has as many, and there is no such layer.
        out_channels: channels of the logits.
        pretrained: ImageNet weights of the encoder: false, true, a hub name, or a file in timm's or in the
            published PVTv2 layout; see `load_encoder`.
        encoder: ``pvt_v2_b0`` to ``pvt_v2_b5`` of timm.
        encoder_arguments: further arguments of ``timm.create_model``.
        kernel_sizes: depthwise kernels of the multi-scale convolutions.
        expansion: factor on the channels inside these.
        gate_kernel_size: side of the kernels of the attention gates.
        act: MONAI activation of the multi-scale convolutions; ``relu6`` is what the published training runs
            with.
        drop_path: highest rate of stochastic depth in the encoder, in train mode only.
        latents: ``"none"``; ``"side"``, heads L1 and L2 that are dropped at export; or ``"inline"``, between
            encoder and decoder; see `DifomUNet`.
        latent_channels: channels of L1 and L2.

    Attributes:
        taps: encoder ``stride4``, ``stride8``, ``stride16``, ``bottleneck`` (stride 32); decoder
            ``decoder_stride32`` to ``decoder_stride4``; and ``L1``, ``L2`` where there are latents.
        training_only: name prefixes of parameters that the exported network does not have.

    Raises:
        ValueError: another number of dimensions or encoder; in ``forward``, a side of the image is no
            multiple of 32.

    Example:
        >>> net = EMCADNet(2, 3, 1, encoder="pvt_v2_b0").eval()
        >>> net(torch.rand(1, 3, 352, 352)).shape
        torch.Size([1, 1, 352, 352])
    """

    divisor = 32

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 1,
        pretrained: Pretrained = False,
        encoder: str = "pvt_v2_b2",
        encoder_arguments: Mapping[str, Any] | None = None,
        kernel_sizes: Sequence[int] = (1, 3, 5),
        expansion: int = 2,
        gate_kernel_size: int = 3,
        act: str | tuple = "relu6",
        drop_path: float = 0.1,
        latents: LatentMode = "none",
        latent_channels: int = 256,
    ) -> None:
        super().__init__()
        if spatial_dims != 2:
            raise ValueError(f"spatial_dims is {spatial_dims}; EMCADNet's encoder allows 2 only.")
        if not encoder.startswith("pvt_v2_"):
            raise ValueError(f"encoder is {encoder!r}; allowed are pvt_v2_b0 to pvt_v2_b5.")
        rgb = in_channels in (1, 3)
        self.grey = nn.Sequential(nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3), nn.ReLU()) if rgb else nn.Identity()
        self.encoder = load_encoder(
            encoder,
            pretrained,
            3 if rgb else in_channels,
            rename=published_pvt_key,
            out_indices=(0, 1, 2, 3),
            drop_path_rate=drop_path,
            **(encoder_arguments or {}),
        )
        widths = encoder_channels(self.encoder)[::-1]
        self.latents = make_latents(latents, 2, widths[0], latent_channels)
        self.decoder = EMCADDecoder(widths, kernel_sizes, expansion, gate_kernel_size, act)
        self.heads = nn.ModuleList(nn.Conv2d(width, out_channels, 1) for width in widths)

        self.training_only = ("latents.",) if latents == "side" else ()
        names = ("bottleneck", "stride16", "stride8", "stride4")
        self.taps: dict[str, Tap] = {}
        for i, (name, width, stride) in enumerate(zip(names, widths, _STRIDES, strict=True)):
            self.taps[name] = Tap(f"encoder.stages_{3 - i}", width, stride)
            self.taps[f"decoder_stride{stride}"] = Tap(f"decoder.scales.{i}", width, stride)
        self.taps.update(latent_taps(latents, latent_channels, 32))

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Return logits of an image ``(B, in_channels, H, W)``, each ``(B, out_channels, H, W)``.

        In eval mode those of the last head, which are the published prediction. In train mode the list of all
        four, coarse to fine as published (strides 32, 16, 8 and 4): the prediction is the last.
        """
        if not torch.jit.is_scripting():
            check_input_size(x.shape[2:], self.divisor, "EMCADNet")
        maps = self.encoder(self.grey(x) if x.shape[1] == 1 else x)
        decoded = self.decoder(self.latents(maps[3]), [maps[2], maps[1], maps[0]])
        outputs: list[torch.Tensor] = []
        for i, head in enumerate(self.heads):
            if self.training or i == 3:
                outputs.append(upsample_like(head(decoded[i]), x, False))
        if self.training:
            return outputs
        return outputs[0]


def published_pvt_key(key: str) -> str:
    """Map a key of the published PVTv2 to timm's; timm's own keys stay as they are.

    ====================================  ===================================
    published                             timm
    ====================================  ===================================
    ``patch_embed1.*``                    ``patch_embed.*``
    ``patch_embed{n}.*``                  ``stages.{n-1}.downsample.*``
    ``block{n}.{i}.*``                    ``stages.{n-1}.blocks.{i}.*``
    ``norm{n}.*``                         ``stages.{n-1}.norm.*``
    ``... .mlp.dwconv.dwconv.*``          ``... .mlp.dwconv.*``
    ====================================  ===================================
    """
    key = key.replace(".dwconv.dwconv.", ".dwconv.").replace("patch_embed1.", "patch_embed.")
    places = {"patch_embed": "downsample.", "block": "blocks.", "norm": "norm."}
    found = re.match(r"(patch_embed|block|norm)([1-4])\.", key)
    if found is None:
        return key
    return f"stages.{int(found[2]) - 1}.{places[found[1]]}{key[found.end() :]}"


_PARTS = {
    "pconv1": "expand",
    "msdc.dwconvs": "depthwise",
    "pconv2": "project",
    "up_dwc.1": "depthwise.0",
    "up_dwc.2": "depthwise.1",
    "pwc.0": "pointwise",
    "W_g": "gate",
    "W_x": "skip",
    "psi": "weight",
}
# published block -> (list here, number of its deepest one)
_BLOCKS = {"mscb": ("scales", 4), "cab": ("channel", 4), "eucb": ("ups", 3), "lgag": ("gates", 3)}


def published_emcadnet_key(key: str) -> str:
    """Map a key of the published EMCADNet checkpoint to this network's key.

    ===================================================  ====================================================
    published                                            here
    ===================================================  ====================================================
    ``conv.*`` (one channel to three)                    ``grey.*``
    ``backbone.*``                                       ``encoder.*``, renamed as `published_pvt_key` says
    ``decoder.mscb{n}.0.pconv1``, ``.msdc.dwconvs``,     ``decoder.scales.{4-n}.expand``, ``.depthwise``,
    ``.pconv2``                                          ``.project``
    ``decoder.cab{n}``, ``decoder.sab``                  ``decoder.channel.{4-n}``, ``decoder.spatial``
    ``decoder.eucb{n}.up_dwc.1``, ``.up_dwc.2``,         ``decoder.ups.{3-n}.depthwise.0``, ``.depthwise.1``,
    ``.pwc.0``                                           ``.pointwise``
    ``decoder.lgag{n}.W_g``, ``.W_x``, ``.psi``          ``decoder.gates.{3-n}.gate``, ``.skip``, ``.weight``
    ``out_head{n}`` (4 is the deepest)                   ``heads.{4-n}``
    ===================================================  ====================================================

    Raises:
        ValueError: the key is none of these.
    """
    module, _, rest = key.partition(".")
    if module == "conv":
        return f"grey.{rest}"
    if module == "backbone":
        return f"encoder.{published_pvt_key(rest).replace('stages.', 'stages_', 1)}"
    if module.startswith("out_head"):
        return f"heads.{4 - int(module.removeprefix('out_head'))}.{rest}"
    if rest.startswith("sab."):
        return f"decoder.spatial.{rest.removeprefix('sab.')}"
    found = re.match(r"(mscb|cab|eucb|lgag)([1-4])\.(?:0\.(?=pconv|msdc))?", rest)
    if module != "decoder" or found is None:
        raise ValueError(f"{key!r} is no key of a published EMCADNet.")
    block, deepest = _BLOCKS[found[1]]
    inner = rest[found.end() :]
    for theirs, ours in _PARTS.items():
        if inner.startswith(f"{theirs}."):
            inner = ours + inner.removeprefix(theirs)
            break
    return f"decoder.{block}.{deepest - int(found[2])}.{inner}"


def load_published_emcadnet(
    network: EMCADNet, checkpoint: str | os.PathLike | Mapping[str, torch.Tensor]
) -> EMCADNet:
    """Load a checkpoint of the published EMCADNet; the key map stands in `published_emcadnet_key`.

    The heads are numbered as the published code does since 2025, ``out_head4`` on the deepest map. In files
    from before, ``out_head1`` is the deepest; their order is told from the shapes.

    Args:
        network: the encoder, kernel sizes and output channels of the checkpoint, and latents ``"none"`` or
            ``"side"``, whose weights stay as they are.
        checkpoint: file, or its state dict.

    Returns:
        The network.

    Raises:
        ValueError: a key of the checkpoint has no place, or a parameter of the network has no key.
    """
    if isinstance(checkpoint, (str, os.PathLike)):
        checkpoint = read_weights(checkpoint, "Give a checkpoint of the published EMCADNet.")
    first, last = (checkpoint.get(f"out_head{n}.weight") for n in (1, 4))
    upside_down = first is not None and last is not None and first.shape[1] > last.shape[1]

    def rename(key: str) -> str:
        if upside_down:
            key = re.sub(r"^out_head([1-4])\.", lambda found: f"out_head{5 - int(found[1])}.", key)
        return published_emcadnet_key(key)

    return load_published(network, checkpoint, rename, "EMCADNet", network.training_only)
