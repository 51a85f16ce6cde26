"""Vision transformers with an upsampling decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from monai.networks.nets import ViT
from safetensors.torch import save_file
from torch import nn

from monai_difom.networks.blocks.tokens import TimmTokens
from monai_difom.networks.nets import ViTSegmenter
from monai_difom.networks.taps import read_taps
from tests.testers import StudentTester


class ViTTester(StudentTester):
    image_size = (32, 48)
    wrong_size = None
    odd_size = (50, 67)
    refusals = (
        ({"spatial_dims": 3}, "allowed are 2, and 3 with a MONAI ViT"),
        ({"encoder": "resnet18"}, "resnet18 is no plain vision transformer"),
        ({"encoder": "vit_tinny_patch16_224"}, "Near: vit_tiny_patch16_224"),
        ({"latents": "outline"}, "allowed are 'none', 'side' and 'inline'"),
    )

    def make(self, **changes: Any) -> nn.Module:
        arguments = {"out_channels": 2, "encoder": "test_vit", "decoder_channels": 8, "latent_channels": 3}
        return ViTSegmenter(**{"image_size": self.image_size, **arguments, **changes})


class TestViTSegmenter(ViTTester):
    exports = True


class TestViTSegmenterWithSideLatents(ViTTester):
    latents = "side"


class TestViTSegmenterWithInlineLatents(ViTTester):
    latents = "inline"


class MonaiViTTester(ViTTester):
    refusals = (
        ({"pretrained": True}, "pretrained is for timm's models"),
        ({"image_size": 64}, "Give the same size as image_size and img_size"),
        ({"proj_type": "perceptron"}, "needs classification=False and proj_type='conv'"),
    )

    def make(self, **changes: Any) -> nn.Module:
        dims = len(self.image_size)
        projection = changes.pop("proj_type", "conv")
        transformer = ViT(
            3, self.image_size, (8,) * dims, 12, 24, 3, 2, proj_type=projection, spatial_dims=dims
        )
        return super().make(**{"encoder": transformer, **changes})


class TestMonaiViT(MonaiViTTester):
    exports = True


class TestMonaiViTOfVolumes(MonaiViTTester):
    spatial_dims = 3
    image_size = (16, 24, 16)
    odd_size = (17, 20, 30)


@torch.no_grad()
def test_hidden_states_are_taps_and_the_last_is_the_bottleneck() -> None:
    network = ViTSegmenter(encoder="test_vit", image_size=32).eval()
    _, maps = read_taps(network, torch.rand(1, 3, 32, 32), network.taps)
    assert {f"layer{i}" for i in range(1, 7)} | {"bottleneck", "stride8", "stride4"} == set(maps)
    assert torch.equal(maps["layer6"], maps["bottleneck"])
    assert not torch.equal(maps["layer5"], maps["layer6"])


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_vit", "eva02_tiny_patch14_224", "vit_small_patch16_rope_mixed_224"])
def test_hidden_states_are_those_that_timm_gives_in_torchscript_too(name: str) -> None:
    tokens = TimmTokens(name, False, 3, (32, 32)).eval()
    image = torch.rand(1, 3, *(side * step for side, step in zip((2, 3), tokens.patch, strict=True)))
    theirs = tokens.model.forward_intermediates(image, intermediates_only=True)
    torch.testing.assert_close(tokens(image), theirs, atol=0, rtol=0)
    torch.testing.assert_close(torch.jit.script(tokens)(image), theirs, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("size", [(40, 24), (8, 56)])
def test_the_scripted_student_takes_any_size_and_another_normalisation(size: tuple[int, int]) -> None:
    network = ViTSegmenter(encoder="test_vit", image_size=32, mean=(0.5,) * 3, std=(0.5,) * 3).eval()
    image = torch.rand(1, 3, *size)
    torch.testing.assert_close(torch.jit.script(network)(image), network(image), atol=1e-5, rtol=0)


@torch.no_grad()
def test_maps_lie_as_the_image_does() -> None:
    torch.manual_seed(0)
    network = ViTSegmenter(encoder="test_vit", image_size=(64, 96)).eval()
    image = torch.zeros(1, 3, 64, 96)
    bright = image.clone()
    bright[..., 48:, :16] = 3  # the patch in the last row, first column
    before, after = (read_taps(network, x, {"a": network.taps["layer1"]})[1]["a"] for x in (image, bright))
    assert int((after - before).abs().sum(1).flatten().argmax()) == 3 * 6


@torch.no_grad()
def test_another_size_reads_the_position_embedding_resampled() -> None:
    network = ViTSegmenter(encoder="test_vit", image_size=32).eval()
    wide = network.encoder.model.pos_embed.shape[1]
    assert network(torch.rand(1, 3, 64, 48)).shape == (1, 1, 64, 48)
    assert network.encoder.model.pos_embed.shape[1] == wide == 4 + network.encoder.model.num_prefix_tokens


def test_a_local_weight_file_of_another_size_fills_the_encoder(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = timm.create_model("test_vit", pretrained=False)
    save_file(source.state_dict(), str(tmp_path / "vit.safetensors"))
    network = ViTSegmenter(encoder="test_vit", pretrained=tmp_path / "vit.safetensors", image_size=(64, 32))
    own = network.encoder.model.state_dict()
    assert torch.equal(own["blocks.3.attn.qkv.weight"], source.state_dict()["blocks.3.attn.qkv.weight"])
    assert own["pos_embed"].shape[1] == 8 + network.encoder.model.num_prefix_tokens


@pytest.mark.parametrize(("name", "stride"), [("vit_tiny_patch16_224", 8), ("vit_small_patch14_dinov2", 7)])
def test_vits_of_timm_are_named_by_their_model(name: str, stride: int) -> None:
    network = ViTSegmenter(encoder=name, image_size=32)
    assert network.taps[f"stride{stride}"].stride == stride
    assert network.taps["bottleneck"].stride == 2 * stride
