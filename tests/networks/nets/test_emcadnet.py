"""The EMCADNet student, and the published checkpoint that it loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from monai_difom.networks.nets import EMCADNet, load_published_emcadnet
from tests.networks.nets.published import (
    Published,
    SideOutputTester,
    assert_refuses_what_does_not_fit,
    assert_takes_every_key,
    emcadnet,
    published_keys,
)

# a PVTv2 in small
TINY = {"embed_dims": (32, 48, 64, 80), "depths": (1, 2, 1, 1), "num_heads": (1, 2, 4, 5)}
PUBLISHED = {"widths": (32, 48, 64, 80), "depths": (1, 2, 1, 1), "heads": (1, 2, 4, 5)}


def tiny(**changes: Any) -> EMCADNet:
    return EMCADNet(**{"encoder": "pvt_v2_b0", "encoder_arguments": TINY, "drop_path": 0.0, **changes})


class EMCADNetTester(SideOutputTester):
    head = "heads.3"
    refusals = (
        ({"spatial_dims": 3}, "EMCADNet's encoder allows 2 only"),
        ({"encoder": "resnet18"}, "allowed are pvt_v2_b0 to pvt_v2_b5"),
        ({"latents": "outline"}, "allowed are 'none', 'side' and 'inline'"),
    )
    idle = ("grey.",)

    def make(self, **changes: Any) -> nn.Module:
        return tiny(**{"out_channels": 2, "latent_channels": 3, **changes})


class TestEMCADNet(EMCADNetTester):
    exports = True


class TestEMCADNetWithSideLatents(EMCADNetTester):
    latents = "side"


class TestEMCADNetWithInlineLatents(EMCADNetTester):
    latents = "inline"


@pytest.mark.parametrize("encoder", [f"pvt_v2_b{n}" for n in range(6)])
def test_every_published_encoder_gives_the_taps_that_the_bundle_reads(encoder: str) -> None:
    with torch.device("meta"):
        network = EMCADNet(encoder=encoder, encoder_arguments={"depths": (1, 1, 1, 1)})
    found = {name: (tap.channels, tap.stride) for name, tap in network.taps.items()}
    assert found["bottleneck"] == (256 if encoder.endswith("b0") else 512, 32)
    assert found["stride8"] == (64 if encoder.endswith("b0") else 128, 8)


def test_stochastic_depth_works_in_train_mode_only() -> None:
    network = tiny(drop_path=0.9).train()
    image = torch.rand(2, 3, 64, 64)
    torch.manual_seed(0)
    assert not torch.equal(network(image)[-1], network(image)[-1])
    network.eval()
    assert torch.equal(network(image), network(image))


@pytest.mark.parametrize("in_channels", [1, 4])
def test_images_of_other_channels_are_taken(in_channels: int) -> None:
    network = tiny(in_channels=in_channels).eval()
    assert network(torch.rand(1, in_channels, 32, 32)).shape == (1, 1, 32, 32)


# -- the published checkpoint ----


def _state(image: torch.Tensor, **encoder: Any) -> dict[str, torch.Tensor]:
    published = Published()
    with torch.no_grad():
        emcadnet(published, image, **encoder)
    return published.state


@pytest.fixture(scope="module")
def small() -> dict[str, torch.Tensor]:
    return _state(torch.rand(1, 3, 32, 32), **PUBLISHED)


def test_the_function_here_has_the_keys_and_shapes_of_the_published_checkpoint() -> None:
    expected = published_keys("emcadnet_pvt_v2_b2")
    found = {key: tuple(value.shape) for key, value in _state(torch.rand(1, 3, 32, 32)).items()}
    assert found == {key: tuple(shape) for key, shape in expected["keys"].items()}
    assert expected["parameters"] == 26_764_411


def test_the_default_network_takes_every_published_key() -> None:
    assert_takes_every_key(EMCADNet, load_published_emcadnet, "emcadnet_pvt_v2_b2", 26_764_411)


@torch.no_grad()
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("size", [(64, 96), (128, 32)])
def test_a_loaded_network_computes_what_the_published_one_does(
    small: dict[str, torch.Tensor], training: bool, channels: int, size: tuple[int, int], tmp_path: Path
) -> None:
    torch.save(small, tmp_path / "emcadnet.pth")
    network = load_published_emcadnet(tiny(), tmp_path / "emcadnet.pth").double().train(training)
    published = Published(training)
    published.state = {key: value.double() for key, value in small.items()}
    image = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(1)).double()
    expected = emcadnet(published, image, **PUBLISHED)
    found = network(image)
    if training:
        torch.testing.assert_close(found, expected, atol=1e-7, rtol=1e-7)
    else:
        torch.testing.assert_close(found, expected[-1], atol=1e-7, rtol=1e-7)
    assert expected[-1].std() > 0.05


@torch.no_grad()
def test_heads_numbered_the_old_way_are_told_by_their_shapes(small: dict[str, torch.Tensor]) -> None:
    old = {}
    for key, value in small.items():
        head = key.startswith("out_head")
        old[f"out_head{5 - int(key[8])}{key[9:]}" if head else key] = value
    image = torch.rand(1, 3, 64, 64)
    found = [load_published_emcadnet(tiny(), state).eval()(image) for state in (small, old)]
    assert torch.equal(found[0], found[1])


def test_the_encoder_takes_a_file_in_the_published_layout(
    small: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    encoder = {
        key.removeprefix("backbone."): value for key, value in small.items() if key.startswith("backbone.")
    }
    torch.save({**encoder, "head.weight": torch.zeros(1000, 80)}, tmp_path / "pvt_v2_b0.pth")
    network = tiny(pretrained=str(tmp_path / "pvt_v2_b0.pth"))
    expected = load_published_emcadnet(tiny(), small).encoder.state_dict()
    found = network.encoder.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())


def test_a_checkpoint_with_a_strange_or_a_missing_key_is_refused(small: dict[str, torch.Tensor]) -> None:
    assert_refuses_what_does_not_fit(
        lambda state: load_published_emcadnet(tiny(), state),
        small,
        strange=["backbone.block5.0.norm1.weight", "decoder.mscb5.0.pconv1.0.weight", "x"],
        missing=("decoder.lgag3.W_g.0.bias", "decoder.gates.0.gate.0.bias"),
    )
