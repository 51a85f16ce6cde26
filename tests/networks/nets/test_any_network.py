"""Networks of MONAI and segmentation_models_pytorch become students by tap names."""

from __future__ import annotations

from collections.abc import Callable

import monai.networks.nets as nets
import pytest
import torch
from torch import nn

from monai_difom.networks.nets import MainOutput, tapped
from monai_difom.networks.taps import Tap, read_taps
from tests.testers import StudentTester

WIDTHS = (4, 5, 6, 7, 8)


class AnyNetworkTester(StudentTester):
    """Tapped networks keep their own names, sizes and libraries: what they refuse is not ours to test."""

    has_latents = False
    wrong_size = None
    torchscript = "trace"
    refusals = (({"taps": {"bottleneck": "nowhere"}}, "unknown module of"),)
    test_the_name_is_not_one_that_monai_would_prefer = None  # it is MONAI's own class


class TestBasicUNet(AnyNetworkTester):
    encoder, head = "down_1", "final_conv"
    odd_size = (33, 47)

    def make(self, spatial_dims: int = 2, **changes: dict) -> nn.Module:
        network = nets.BasicUNet(spatial_dims, 3, 2, (*WIDTHS, 4), norm="batch")
        network.training_only = ()
        return tapped(network, **{"taps": {"bottleneck": "down_4", "stride8": "down_3"}, **changes})


class TestDynUNet(AnyNetworkTester):
    encoder, head = "network.downsamples", "network.output_block.conv.conv"
    image_size = (32, 64)

    def make(self, spatial_dims: int = 2, **changes: dict) -> nn.Module:
        network = MainOutput(
            nets.DynUNet(spatial_dims, 3, 2, [3] * 5, [1, 2, 2, 2, 2], [2] * 4, WIDTHS, norm_name="batch")
        )
        network.training_only = ()
        taps = {"bottleneck": "network.bottleneck", "stride8": "network.downsamples.2"}
        return tapped(network, **{"taps": taps, **changes})


NETWORKS: dict[str, tuple[Callable[[int], nn.Module], dict[str, str], tuple[int, int]]] = {
    "basic_unet": (
        lambda dims: nets.BasicUNet(dims, 3, 1, (*WIDTHS, 4)),
        {"bottleneck": "down_4", "stride8": "down_3"},
        (8, 7),
    ),
    "dynunet": (
        lambda dims: nets.DynUNet(dims, 3, 1, [3] * 4, [1, 2, 2, 2], [2] * 3, WIDTHS[:4]),
        {"bottleneck": "bottleneck", "stride4": "downsamples.1"},
        (7, 6),
    ),
    "flexible_unet": (
        lambda dims: nets.FlexibleUNet(3, 1, "efficientnet-b0", spatial_dims=dims),
        {"bottleneck": "encoder[4]", "stride8": "encoder[2]"},
        (320, 40),
    ),
    "segresnet": (
        lambda dims: nets.SegResNet(dims, 8, 3, 1, blocks_down=(1, 1, 1, 1, 1), blocks_up=(1, 1, 1, 1)),
        {"bottleneck": "down_layers.4", "stride8": "down_layers.3"},
        (128, 64),
    ),
    "attention_unet": (
        lambda dims: nets.AttentionUnet(dims, 3, 1, (4, 6, 8, 10), (2, 2, 2)),
        {"bottleneck": "model.1.submodule.1.submodule.1.submodule"},
        (10, 0),
    ),
    "swin_unetr": (
        lambda dims: nets.SwinUNETR(
            3, 1, feature_size=12, depths=(1, 1, 1, 1), norm_name="batch", spatial_dims=dims
        ),
        {"bottleneck": "encoder10", "stride8": "swinViT[2]"},
        (192, 48),
    ),
}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_monai_give_their_taps_and_a_gradient_through_them(name: str, dims: int) -> None:
    build, taps, channels = NETWORKS[name]
    network = tapped(build(dims), taps, probe_size=64 if dims == 2 else 32)
    assert [network.taps[key].channels for key in taps] == list(channels[: len(taps)])
    image = torch.rand(1, 3, *[64 if dims == 2 else 32] * dims)
    network.eval()
    logits, maps = read_taps(network, image, network.taps)
    assert logits.shape == (1, 1, *image.shape[2:])
    for key, tap in network.taps.items():
        assert tuple(maps[key].shape[2:]) == tuple(side / tap.stride for side in image.shape[2:])
    maps["bottleneck"].sum().backward()
    assert next(network.parameters()).grad is not None


def test_segmentation_models_pytorch_becomes_a_student() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    network = smp.Unet("mobilenet_v2", encoder_weights=None)
    assert tapped(network, {"bottleneck": "encoder[5]", "stride8": "encoder[3]"}, divisor=32) is network
    assert network.taps == {"bottleneck": Tap("encoder[5]", 1280, 32), "stride8": Tap("encoder[3]", 32, 8)}
    assert network.divisor == 32


def test_a_tapped_network_keeps_keys_and_function() -> None:
    network = nets.BasicUNet(2, 3, 1, (*WIDTHS, 4)).train()
    keys, image = list(network.state_dict()), torch.rand(1, 3, 32, 32)
    before = network(image)
    assert tapped(network, {"deep": "down_4"}) is network
    assert list(network.state_dict()) == keys
    assert network.training
    assert torch.equal(network(image), before)


def test_a_network_that_gives_a_list_is_refused_with_what_to_do() -> None:
    network = nets.BasicUNetPlusPlus(2, 3, 1, (*WIDTHS, 4))
    with pytest.raises(ValueError, match=r"gives a list in eval mode; .* Put it into .*MainOutput"):
        tapped(network, {"bottleneck": "conv_4_0"})


def test_of_a_list_the_main_output_remains_and_training_may_have_all() -> None:
    inner = nets.BasicUNetPlusPlus(2, 3, 1, (*WIDTHS, 4), deep_supervision=True, norm="instance")
    image = torch.rand(1, 3, 32, 32)
    expected = inner.eval()(image)
    for deep in (False, True):
        network = tapped(
            MainOutput(inner, main=-1, deep_supervision=deep), {"bottleneck": "network.conv_4_0"}
        )
        assert torch.equal(network.eval()(image), expected[-1])
        found = network.train()(image)
        assert isinstance(found, list) == deep
    assert [tuple(output.shape) for output in found] == [(1, 1, 32, 32)] * 4
    torch.testing.assert_close(found[0], inner(image)[-1])


def test_stacked_outputs_of_dynunet_come_apart() -> None:
    inner = nets.DynUNet(
        2, 3, 2, [3] * 4, [1, 2, 2, 2], [2] * 3, WIDTHS[:4], deep_supervision=True, deep_supr_num=2
    )
    network, image = MainOutput(inner, deep_supervision=True).train(), torch.rand(2, 3, 32, 32)
    found = network(image)
    assert [tuple(output.shape) for output in found] == [(2, 2, 32, 32)] * 3
    assert torch.equal(found[0], inner(image)[:, 0])
    assert network.eval()(image).shape == (2, 2, 32, 32)
    assert MainOutput(inner).train()(image).shape == (2, 2, 32, 32)


def test_an_output_that_is_not_there_is_refused() -> None:
    inner = nets.BasicUNetPlusPlus(2, 3, 1, (*WIDTHS, 4), deep_supervision=True)
    with pytest.raises(ValueError, match="main is 4; BasicUNetPlusPlus gives 4 outputs"):
        MainOutput(inner, main=4)(torch.rand(1, 3, 32, 32))
