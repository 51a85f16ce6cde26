"""PraNet student, and the published checkpoint that it loads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..blocks import check_input_size, make_latents, upsample_like
from ..blocks.latents import LatentMode, latent_taps
from ..blocks.reverse_attention import PartialDecoder, ReceptiveField, ReverseAttention
from ..encoders import Pretrained, encoder_channels, load_encoder
from ..taps import Tap
from ..weights import load_published


class PraNetDecoder(nn.Module):
    """A first guess from three depths, then three reverse-attention stages that mend its edges.

    Args:
        channels: channels of the encoder's maps at strides 8, 16 and 32.
        out_channels: channels of the logits.
        features: channels of the receptive-field blocks.
        reverse_features: channels inside the stages at strides 32, 16 and 8.
    """

    def __init__(
        self, channels: Sequence[int], out_channels: int, features: int, reverse_features: Sequence[int]
    ) -> None:
        super().__init__()
        fine, middle, deep = channels
        self.fields = nn.ModuleList(ReceptiveField(width, features) for width in channels)
        self.partial = PartialDecoder(features, out_channels)
        at32, at16, at8 = reverse_features
        self.reverse = nn.ModuleList(
            [
                ReverseAttention(deep, at32, out_channels, depth=3, kernel_size=5, head_kernel_size=1),
                ReverseAttention(middle, at16, out_channels),
                ReverseAttention(fine, at8, out_channels),
            ]
        )

    def forward(self, fine: torch.Tensor, middle: torch.Tensor, deep: torch.Tensor) -> list[torch.Tensor]:
        """Return four logits, each on its own grid: the first guess (stride 8), strides 32, 16 and 8."""
        fields: list[torch.Tensor] = []
        maps = [fine, middle, deep]
        for i, field in enumerate(self.fields):
            fields.append(field(maps[i]))
        guess = self.partial(fields[2], fields[1], fields[0])
        outputs = [guess]
        for i, stage in enumerate(self.reverse):
            guess = stage(maps[2 - i], upsample_like(guess, maps[2 - i], False))
            outputs.append(guess)
        return outputs


class PraNet(nn.Module):
    """PraNet (Fan et al., MICCAI 2020): Res2Net-50 v1b, partial decoder, three reverse-attention stages; 2D.

    The defaults compute the published network's function, and take its weights with `load_published_pranet`.

    Args:
        spatial_dims: 2; the encoder has no 3D form.
        in_channels: channels of the image.
        out_channels: channels of the logits; 1 as published. With more, every channel is a structure of its
            own (sigmoid), and reverse attention looks where none of them is found.
        pretrained: ImageNet weights of the encoder: false, true, a hub name, or a file in timm's or in the
            published Res2Net layout, which are the same; see `load_encoder`.
        encoder: timm model with five stages at strides 2 to 32; ``res2net50d`` is Res2Net-50 v1b, 26w x 4s.
        encoder_arguments: further arguments of ``timm.create_model``.
        features: channels of the receptive-field blocks.
        reverse_features: channels inside the reverse-attention stages at strides 32, 16 and 8.
        latents: ``"none"``; ``"side"``, heads L1 and L2 that are dropped at export; or ``"inline"``, between
            encoder and decoder; see `DifomUNet`.
        latent_channels: channels of L1 and L2.

    Attributes:
        taps: encoder ``stride4``, ``stride8``, ``stride16``, ``bottleneck`` (stride 32); decoder
            ``partial_decoder`` (stride 8), ``decoder_stride32``, ``decoder_stride16``, ``decoder_stride8``
            (what the reverse-attention stages read their logits from); and ``L1``, ``L2`` where there are
            latents.
        training_only: name prefixes of parameters that the exported network does not have.

    Raises:
        ValueError: another number of dimensions; in ``forward``, a side of the image is no multiple of 32.

    Example:
        >>> net = PraNet(2, 3, 1).eval()
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
        encoder: str = "res2net50d",
        encoder_arguments: Mapping[str, Any] | None = None,
        features: int = 32,
        reverse_features: Sequence[int] = (256, 64, 64),
        latents: LatentMode = "none",
        latent_channels: int = 256,
    ) -> None:
        super().__init__()
        if spatial_dims != 2:
            raise ValueError(f"spatial_dims is {spatial_dims}; PraNet's encoder allows 2 only.")
        self.encoder = load_encoder(
            encoder, pretrained, in_channels, out_indices=(2, 3, 4), **(encoder_arguments or {})
        )
        fine, middle, deep = widths = encoder_channels(self.encoder)
        self.latents = make_latents(latents, 2, deep, latent_channels)
        self.decoder = PraNetDecoder(widths, out_channels, features, reverse_features)

        self.training_only = ("latents.",) if latents == "side" else ()
        self.taps = {
            "stride8": Tap("encoder.layer2", fine, 8),
            "stride16": Tap("encoder.layer3", middle, 16),
            "bottleneck": Tap("encoder.layer4", deep, 32),
            "partial_decoder": Tap("decoder.partial.refine", 3 * features, 8),
        }
        for i, (width, stride) in enumerate(zip(reverse_features, (32, 16, 8), strict=True)):
            self.taps[f"decoder_stride{stride}"] = Tap(f"decoder.reverse.{i}.features", width, stride)
        self.taps.update(latent_taps(latents, latent_channels, 32))

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Return logits of an image ``(B, in_channels, H, W)``, each ``(B, out_channels, H, W)``.

        In eval mode the last reverse-attention stage, which is the published prediction. In train mode the
        list of all four, coarse to fine as published (first guess, stages at strides 32, 16 and 8): the
        prediction is the last.
        """
        if not torch.jit.is_scripting():
            check_input_size(x.shape[2:], self.divisor, "PraNet")
        fine, middle, deep = self.encoder(x)
        outputs = self.decoder(fine, middle, self.latents(deep))
        if self.training:
            return [upsample_like(output, x, False) for output in outputs]
        return upsample_like(outputs[-1], x, False)


_PARTIAL = {
    "conv_upsample1": "deep_to_middle",
    "conv_upsample2": "deep_to_fine",
    "conv_upsample3": "middle_to_fine",
    "conv_upsample4": "carry_deep",
    "conv_upsample5": "carry_middle",
    "conv_concat2": "merge_middle",
    "conv_concat3": "merge_fine",
    "conv4": "refine",
    "conv5": "head",
}
# published stage -> (place here, number of its last convolution)
_REVERSE = {"ra4": (0, 5), "ra3": (1, 4), "ra2": (2, 4)}


def published_pranet_key(key: str) -> str | None:
    """Map a key of the published PraNet checkpoint to this network's key; None for the unused classifier.

    =============================================  ==========================================================
    published                                      here
    =============================================  ==========================================================
    ``resnet.*``                                   ``encoder.*`` (timm's names are the published ones)
    ``resnet.fc.*``                                none: the published network never runs it
    ``rfb2_1``, ``rfb3_1``, ``rfb4_1``             ``decoder.fields.0``, ``.1``, ``.2``
    ... ``.branch{b}.{i}``                         ... ``.branches.{b}.{i}``
    ... ``.conv_cat``, ``.conv_res``               ... ``.merge``, ``.shortcut``
    ``agg1.conv_upsample1`` to ``5``               ``decoder.partial.deep_to_middle``, ``.deep_to_fine``,
                                                   ``.middle_to_fine``, ``.carry_deep``, ``.carry_middle``
    ``agg1.conv_concat2``, ``agg1.conv_concat3``   ``decoder.partial.merge_middle``, ``.merge_fine``
    ``agg1.conv4``, ``agg1.conv5``                 ``decoder.partial.refine``, ``.head``
    ``ra4_*``, ``ra3_*``, ``ra2_*``                ``decoder.reverse.0``, ``.1``, ``.2``
    ... ``_conv1``                                 ... ``.features.0``
    ... ``_conv{n}``                               ... ``.features.{2n-3}`` (ReLUs lie between)
    ... the last ``_conv{n}``                      ... ``.head``
    ``.conv``, ``.bn`` of a block                  ``.conv``, ``.norm``
    =============================================  ==========================================================

    Raises:
        ValueError: the key is none of these.
    """
    module, _, rest = key.partition(".")
    if module == "resnet":
        return None if rest.startswith("fc.") else f"encoder.{rest}"
    rest = rest.replace("bn.", "norm.", 1)
    if module.startswith("rfb"):
        rest = (
            rest.replace("conv_cat", "merge").replace("conv_res", "shortcut").replace("branch", "branches.")
        )
        return f"decoder.fields.{int(module[3]) - 2}.{rest}"
    if module == "agg1":
        layer, _, rest = rest.partition(".")
        return f"decoder.partial.{_PARTIAL.get(layer, layer)}.{rest}"
    stage, _, conv = module.partition("_conv")
    if stage not in _REVERSE:
        raise ValueError(f"{key!r} is no key of a published PraNet.")
    place, last = _REVERSE[stage]
    number = int(conv)
    layer = "head" if number == last else f"features.{max(2 * number - 3, 0)}"
    return f"decoder.reverse.{place}.{layer}.{rest}"


def load_published_pranet(
    network: PraNet, checkpoint: str | os.PathLike | Mapping[str, torch.Tensor]
) -> PraNet:
    """Load a checkpoint of the published PraNet (``PraNet-19.pth``); the key map stands in `published_pranet_key`.

    Args:
        network: with default widths, one output channel, and latents ``"none"`` or ``"side"``, whose weights
            stay as they are.
        checkpoint: file, or its state dict.

    Returns:
        The network.

    Raises:
        ValueError: a key of the checkpoint has no place, or a parameter of the network has no key.
    """
    return load_published(network, checkpoint, published_pranet_key, "PraNet", network.training_only)
