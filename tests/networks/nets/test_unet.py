"""The U-Net student."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from monai_difom.networks.nets import DifomUNet
from tests.testers import StudentTester


class UNetTester(StudentTester):
    def make(self, **changes: Any) -> nn.Module:
        arguments = {"out_channels": 2, "features": (4, 5, 6, 7, 8), "latent_channels": 3}
        return DifomUNet(**{**arguments, **changes})


class TestUNet(UNetTester):
    exports = True


class TestUNetWithSideLatents(UNetTester):
    latents = "side"


class TestUNetWithInlineLatents(UNetTester):
    latents = "inline"


class TestVolumeUNet(UNetTester):
    spatial_dims = 3
    latents = "inline"
    image_size = (16, 32, 16)
    wrong_size = (16, 30, 17)
    nearest = "16x16x16 or 16x32x32"


def test_the_defaults_are_what_the_configuration_of_the_paper_needs() -> None:
    network = DifomUNet()
    assert network.divisor == 16
    assert {name: (tap.channels, tap.stride) for name, tap in network.taps.items()} == {
        "stride1": (16, 1),
        "stride2": (32, 2),
        "stride4": (64, 4),
        "stride8": (128, 8),
        "bottleneck": (192, 16),
        "decoder_stride1": (16, 1),
        "decoder_stride2": (32, 2),
        "decoder_stride4": (64, 4),
        "decoder_stride8": (128, 8),
    }


def test_dropout_is_silent_in_eval_mode() -> None:
    network = DifomUNet(features=(4, 8), dropout=0.5).train()
    image = torch.rand(1, 3, 16, 16)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


def test_side_latents_do_not_change_what_is_deployed_even_with_wild_weights() -> None:
    network = DifomUNet(features=(4, 8), latents="side").eval()
    image = torch.rand(1, 3, 16, 16)
    before = network(image)
    for parameter in network.latents.parameters():
        nn.init.constant_(parameter, 1e6)
    assert torch.equal(network(image), before)


@pytest.mark.parametrize("gate", ["gate1", "gate2"])
def test_an_open_gate_brings_an_inline_latent_into_the_path(gate: str) -> None:
    torch.manual_seed(0)
    network = DifomUNet(features=(4, 8), latents="inline").eval()
    image = torch.rand(1, 3, 16, 16)
    before = network(image)
    nn.init.ones_(getattr(network.latents, gate))
    assert not torch.allclose(network(image), before, atol=1e-4)


@pytest.mark.parametrize("norm", ["instance", ("group", {"num_groups": 2})])
def test_other_norms_of_monai_can_be_chosen(norm: str | tuple) -> None:
    network = DifomUNet(features=(4, 8), norm=norm, act="prelu")
    assert network(torch.rand(1, 3, 16, 16)).shape == (1, 1, 16, 16)
