"""The PraNet student, and the published checkpoint that it loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from monai_difom.networks.nets import PraNet, load_published_pranet
from monai_difom.networks.taps import read_taps
from tests.networks.nets.published import (
    Published,
    SideOutputTester,
    assert_refuses_what_does_not_fit,
    assert_takes_every_key,
    pranet,
    published_keys,
)

# a Res2Net in small: same blocks, one per stage
TINY = {"layers": (1, 2, 1, 1), "channels": (16, 20, 24, 32), "stem_width": 8}
WIDTHS = {"features": 4, "reverse_features": (7, 6, 5)}
PUBLISHED = {
    "layers": (1, 2, 1, 1),
    "planes": (16, 20, 24, 32),
    "stem": 8,
    "features": 4,
    "reverse": (7, 6, 5),
}


def tiny(**changes: Any) -> PraNet:
    return PraNet(**{"encoder_arguments": TINY, **WIDTHS, **changes})


class PraNetTester(SideOutputTester):
    head = "decoder.reverse.2.head.norm"
    refusals = (
        ({"spatial_dims": 3}, "PraNet's encoder allows 2 only"),
        ({"encoder": "res2net50e"}, "no model 'res2net50e'. Near: "),
        ({"latents": "outline"}, "allowed are 'none', 'side' and 'inline'"),
    )

    def make(self, **changes: Any) -> nn.Module:
        return tiny(**{"out_channels": 2, "latent_channels": 3, **changes})


class TestPraNet(PraNetTester):
    exports = True


class TestPraNetWithSideLatents(PraNetTester):
    latents = "side"


class TestPraNetWithInlineLatents(PraNetTester):
    latents = "inline"


def test_the_taps_that_the_bundle_reads_are_there_at_published_widths() -> None:
    with torch.device("meta"):
        network = PraNet()
    found = {name: (tap.channels, tap.stride) for name, tap in network.taps.items()}
    assert found["bottleneck"] == (2048, 32)
    assert found["stride8"] == (512, 8)


@torch.no_grad()
def test_with_several_channels_reverse_attention_looks_where_none_has_found_anything() -> None:
    network = tiny(out_channels=3).eval()
    stage, found = network.decoder.reverse[2], torch.full((1, 3, 8, 8), -60.0)
    found[:, 1, :, :4] = 60  # one channel claims the left half
    features = torch.rand(1, 80, 8, 8)
    _, maps = read_taps(network, torch.rand(1, 3, 64, 64), network.taps)
    assert maps["decoder_stride8"].shape == (1, 5, 8, 8)
    blind = stage(torch.zeros_like(features), found)
    seen = stage(features, found)
    assert torch.equal(seen[..., :1], blind[..., :1])
    assert not torch.allclose(seen[..., 5:], blind[..., 5:])


def test_grey_images_have_an_encoder_of_their_own() -> None:
    assert tiny(in_channels=1).eval()(torch.rand(1, 1, 32, 32)).shape == (1, 1, 32, 32)


def test_the_encoder_takes_a_file_in_the_published_layout(tmp_path: Path) -> None:
    torch.manual_seed(4)
    # timm's names of a Res2Net are the published ones, classifier included
    state = timm.create_model("res2net50d", **TINY, num_classes=5).state_dict()
    torch.save(state, tmp_path / "res2net50_v1b_26w_4s.pth")
    network = tiny(pretrained=str(tmp_path / "res2net50_v1b_26w_4s.pth"))
    own = network.encoder.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in own.items())


# -- the published checkpoint ----


@pytest.fixture(scope="module")
def small() -> dict[str, torch.Tensor]:
    published = Published()
    with torch.no_grad():
        pranet(published, torch.rand(1, 3, 32, 32), **PUBLISHED)
    return published.state


def test_the_function_here_has_the_keys_and_shapes_of_the_published_checkpoint() -> None:
    expected = published_keys("pranet_res2net50_v1b")
    published = Published()
    with torch.no_grad():
        pranet(published, torch.rand(1, 3, 32, 32))
    found = {key: tuple(value.shape) for key, value in published.state.items()}
    assert found == {key: tuple(shape) for key, shape in expected["keys"].items()}
    assert expected["parameters"] - 1000 * 2049 == 30_498_319  # without the classifier that never runs


def test_the_default_network_takes_every_published_key_but_the_unused_classifier() -> None:
    assert_takes_every_key(PraNet, load_published_pranet, "pranet_res2net50_v1b", 30_498_319)


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(64, 96), (128, 32)])
def test_a_loaded_network_computes_what_the_published_one_does(
    small: dict[str, torch.Tensor], training: bool, size: tuple[int, int], tmp_path: Path
) -> None:
    torch.save(small, tmp_path / "PraNet-19.pth")
    network = load_published_pranet(tiny(), tmp_path / "PraNet-19.pth").train(training)
    published = Published(training)
    published.state = small
    image = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    expected = pranet(published, image, **PUBLISHED)
    found = network(image)
    if training:
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    else:
        torch.testing.assert_close(found, expected[-1], atol=1e-5, rtol=1e-5)
    assert expected[-1].std() > 0.1


def test_a_checkpoint_with_a_strange_or_a_missing_key_is_refused(small: dict[str, torch.Tensor]) -> None:
    assert_refuses_what_does_not_fit(
        lambda state: load_published_pranet(tiny(), state),
        small,
        strange=["resnet.layer9.conv.weight", "ra5_conv1.conv.weight", "agg1.conv6.weight", "x"],
        missing=("ra4_conv5.bn.bias", "decoder.reverse.0.head.norm.bias"),
    )
