"""Any timm encoder with a light decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from monai_difom.networks.encoders import load_encoder
from monai_difom.networks.nets import LightSegmenter, reparameterize
from tests.testers import StudentTester


class LightTester(StudentTester):
    image_size = (64, 96)
    wrong_size = None
    odd_size = (50, 67)
    refusals = (
        ({"spatial_dims": 3}, "allowed is 2: timm's encoders are for images"),
        ({"encoder": "repvitt_m0_9"}, "no model 'repvitt_m0_9'. Near: repvit_m0_9"),
        ({"decoder": "fnp"}, "Did you mean 'fpn'"),
        ({"latents": "outline"}, "allowed are 'none', 'side' and 'inline'"),
    )

    def make(self, **changes: Any) -> nn.Module:
        arguments = {
            "out_channels": 2,
            "encoder": "test_efficientnet",
            "decoder_channels": 8,
            "latent_channels": 3,
        }
        return LightSegmenter(**{**arguments, **changes})


class TestLightSegmenter(LightTester):
    exports = True


class TestLightSegmenterWithSideLatents(LightTester):
    latents = "side"


class TestLightSegmenterWithInlineLatents(LightTester):
    latents = "inline"


class TestEncoderUNet(LightTester):
    exports = True

    def make(self, **changes: Any) -> nn.Module:
        return super().make(**{"decoder": "unet", "decoder_channels": (8, 6, 6, 4), **changes})


@torch.no_grad()
@pytest.mark.parametrize(
    ("encoder", "taps"),
    [
        ("repvit_m0_9", [(48, 4), (96, 8), (192, 16), (384, 32)]),
        ("tiny_vit_5m_224", [(64, 4), (128, 8), (160, 16), (320, 32)]),
        ("efficientvit_b0", [(16, 4), (32, 8), (64, 16), (128, 32)]),
        ("mobilenetv3_small_100", [(16, 4), (24, 8), (48, 16), (576, 32)]),
        ("mobilenetv4_conv_small", [(32, 4), (64, 8), (96, 16), (960, 32)]),
    ],
)
def test_the_light_encoders_of_timm_give_taps_by_stride_and_logits_at_any_size(
    encoder: str, taps: list[tuple[int, int]]
) -> None:
    network = LightSegmenter(out_channels=12, encoder=encoder).eval()
    names = ("stride4", "stride8", "stride16", "bottleneck")
    assert [(network.taps[name].channels, network.taps[name].stride) for name in names] == taps
    assert network(torch.rand(1, 3, 50, 70)).shape == (1, 12, 50, 70)


@torch.no_grad()
def test_repvit_is_folded_for_inference_and_computes_the_same() -> None:
    torch.manual_seed(0)
    network = LightSegmenter(encoder="repvit_m0_9").train()
    network(torch.rand(2, 3, 64, 64))  # statistics of its own
    folded, image = reparameterize(network), torch.rand(1, 3, 64, 64)
    assert network.training
    assert len(list(folded.modules())) < len(list(network.modules()))
    torch.testing.assert_close(folded(image), network.eval()(image), atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_encoder_gets_the_normalisation_that_it_was_trained_with() -> None:
    network = LightSegmenter(encoder="test_efficientnet", mean=(0.5,) * 3, std=(0.5,) * 3).eval()
    image = torch.rand(1, 3, 32, 32)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(network.normalize((image - mean) / std), 2 * image - 1)
    assert "normalize.scale" in network.state_dict()  # it stays with the weights


@pytest.mark.parametrize("widths", [(8, 8), (8, 8, 8, 8, 8)])
def test_a_unet_decoder_of_other_depth_is_refused_with_the_number_it_needs(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="gives 5 maps, so a U-Net decoder needs 4 numbers"):
        LightSegmenter(encoder="test_efficientnet", decoder="unet", decoder_channels=widths)


def test_a_local_weight_file_fills_the_encoder(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = load_encoder("test_efficientnet")
    save_file(source.state_dict(), str(tmp_path / "encoder.safetensors"))
    network = LightSegmenter(encoder="test_efficientnet", pretrained=tmp_path / "encoder.safetensors")
    own = network.encoder.state_dict()
    assert all(torch.equal(value, own[key]) for key, value in source.state_dict().items())


@pytest.mark.real_data
@torch.no_grad()
def test_a_real_imagenet_encoder_loads_and_gives_the_published_maps(shared_data: Path) -> None:
    file = shared_data.parent / "weights" / "mobilenetv2_100_same_imagenet.safetensors"
    if not file.is_file():
        pytest.skip(f"no weights at {file}")
    network = LightSegmenter(
        encoder="mobilenetv2_100",
        pretrained=file,
        decoder="unet",
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        encoder_arguments={"pad_type": "same"},
    ).eval()
    own, state = network.encoder.state_dict(), load_file(str(file))
    loaded = [key for key, value in state.items() if key in own and torch.equal(own[key], value)]
    assert len(loaded) == sum(not key.endswith("num_batches_tracked") for key in own)
    maps = network.encoder(torch.rand(1, 3, 224, 224) * 2 - 1)
    assert [tuple(found.shape[1:]) for found in maps] == [
        (16, 112, 112),
        (24, 56, 56),
        (32, 28, 28),
        (96, 14, 14),
        (320, 7, 7),
    ]
    assert network(torch.rand(1, 3, 64, 64)).shape == (1, 1, 64, 64)
