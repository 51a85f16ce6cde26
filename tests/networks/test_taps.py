"""Taps: feature maps are read from any network, and the network stays as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_difom.networks.taps import Tap, first_convolution, get_module, probe_taps, read_taps


class Plain(nn.Module):
    """A network that knows nothing of taps."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.deep = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.head = nn.Conv2d(6, 1, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.side = nn.Conv2d(6, 2, 1)
        self.far = nn.Conv2d(2, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.deep(self.stem(x)))


class Pyramid(nn.Module):
    """Its encoder gives a list of maps, the deepest last."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _Levels()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoder(x)[0].mean(1, keepdim=True)


class _Levels(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x[..., ::4, ::4].repeat(1, 2, 1, 1)


TAPS = {"stem": Tap("stem", 4, 2), "deep": Tap("deep", 6, 4)}


@pytest.fixture
def network() -> Plain:
    torch.manual_seed(0)
    return Plain()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1))


def test_output_and_maps_are_what_the_network_computes_without_hooks(
    network: Plain, image: torch.Tensor
) -> None:
    network.eval()
    output, maps = read_taps(network, image, TAPS)
    assert torch.equal(output, network(image))
    assert torch.equal(maps["stem"], network.stem(image))
    assert torch.equal(maps["deep"], network.deep(network.stem(image)))


def test_a_gradient_flows_through_a_map(network: Plain, image: torch.Tensor) -> None:
    _, maps = read_taps(network, image, TAPS)
    maps["deep"].sum().backward()
    assert network.stem[0].weight.grad is not None
    assert network.head.weight.grad is None


def test_a_tap_with_a_source_is_computed_from_that_tap(network: Plain, image: torch.Tensor) -> None:
    taps = {**TAPS, "side": Tap("side", 2, 4, source="deep"), "far": Tap("far", 5, 4, source="side")}
    network.eval()
    _, maps = read_taps(network, image, taps)
    assert torch.equal(maps["side"], network.side(maps["deep"]))
    assert torch.equal(maps["far"], network.far(maps["side"]))


def test_the_order_of_taps_and_sources_does_not_matter(network: Plain, image: torch.Tensor) -> None:
    taps = {"far": Tap("far", 5, 4, source="side"), "side": Tap("side", 2, 4, source="deep"), **TAPS}
    _, maps = read_taps(network.eval(), image, taps)
    assert torch.equal(maps["far"], network.far(network.side(maps["deep"])))


def test_a_source_that_is_no_tap_is_answered_with_the_nearest(network: Plain, image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"source of tap 'side' 'deeper'\. Did you mean 'deep'\?"):
        read_taps(network, image, {**TAPS, "side": Tap("side", 2, 4, source="deeper")})


def test_two_taps_may_read_one_module(network: Plain, image: torch.Tensor) -> None:
    _, maps = read_taps(network, image, {"a": Tap("deep", 6, 4), "b": Tap("deep", 6, 4)})
    assert torch.equal(maps["a"], maps["b"])


def test_of_a_tuple_the_last_map_is_read(image: torch.Tensor) -> None:
    _, maps = read_taps(Pyramid(), image, {"deep": Tap("encoder", 6, 4)})
    assert maps["deep"].shape == (2, 6, 4, 6)


def test_of_a_list_any_map_is_read_by_its_index(image: torch.Tensor) -> None:
    network = Pyramid()
    taps = probe_taps(network, {"fine": "encoder[0]", "deep": "encoder[1]", "last": "encoder[-1]"}, image)
    assert taps == {
        "fine": Tap("encoder[0]", 3, 1),
        "deep": Tap("encoder[1]", 6, 4),
        "last": Tap("encoder[-1]", 6, 4),
    }
    _, maps = read_taps(network, image, taps)
    assert torch.equal(maps["fine"], image)


def test_a_map_that_a_later_module_overwrites_is_refused_and_the_one_after_it_is_read(
    image: torch.Tensor,
) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 1, 1))
    with pytest.raises(
        ValueError, match=r"tap 'early' \(module '0'\) was overwritten.*Tap that following module"
    ):
        probe_taps(network, {"early": "0"}, image)
    with torch.inference_mode():
        _, maps = read_taps(network, image, {"late": Tap("1", 4, 1)})
    assert torch.equal(maps["late"], network[1](network[0](image)))


@pytest.mark.parametrize(
    ("path", "message"),
    [("encoder[2]", "gives 2 maps; count them from 0"), ("[0]", "gives one output, not a list")],
)
def test_an_index_that_cannot_be_is_refused(image: torch.Tensor, path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_taps(Pyramid(), image, {"a": Tap(path, 3, 1)})


def test_the_first_convolution_shows_what_image_a_network_takes(network: Plain) -> None:
    assert first_convolution(network) == (2, 3)
    assert first_convolution(nn.Sequential(nn.ReLU(), nn.Conv3d(5, 2, 1))) == (3, 5)
    with pytest.raises(ValueError, match="Give spatial_dims and in_channels"):
        first_convolution(nn.Linear(2, 2))


def test_a_missing_module_is_answered_with_the_nearest(network: Plain, image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"unknown module of Plain 'stem\.3'\. Did you mean 'stem\.\d'\?"):
        read_taps(network, image, {"a": Tap("stem.3", 4, 2)})
    assert get_module(network, "stem.1") is network.stem[1]


def test_a_module_that_does_not_run_is_named(network: Plain, image: torch.Tensor) -> None:
    taps = {**TAPS, "aside": Tap("side", 2, 4), "after": Tap("far", 5, 4, source="aside")}
    with pytest.raises(RuntimeError, match=r"the taps aside did not run in the forward pass of Plain"):
        read_taps(network, image, taps)


def test_a_module_that_gives_no_map_is_named() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(ValueError, match=r"module '1' gives a tensor of shape \(1, 2\), not a feature map"):
        read_taps(network, torch.rand(1, 3, 2, 2), {"a": Tap("1", 2, 1)})


def _hooks(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in network.modules())


def test_hooks_are_gone_afterwards_and_the_network_still_scripts(network: Plain, image: torch.Tensor) -> None:
    read_taps(network.eval(), image, TAPS)
    assert _hooks(network) == 0
    assert torch.equal(torch.jit.script(network)(image), network(image))


@pytest.mark.parametrize("taps", [{"a": Tap("stem", 4, 2), "b": Tap("nowhere", 1, 1)}, TAPS])
def test_hooks_are_gone_after_an_error_too(network: Plain, taps: dict[str, Tap]) -> None:
    with pytest.raises((ValueError, RuntimeError)):
        read_taps(network, torch.rand(1, 5, 8, 8), taps)
    assert _hooks(network) == 0


def test_a_probe_finds_channels_and_strides(network: Plain, image: torch.Tensor) -> None:
    assert probe_taps(network, {"stem": "stem", "deep": "deep"}, image) == TAPS


def test_a_probe_leaves_modes_and_buffers_as_they_were(network: Plain, image: torch.Tensor) -> None:
    network.train()
    network.stem.eval()  # a frozen encoder inside a network that trains
    before = {key: value.clone() for key, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    probe_taps(network, {"deep": "deep"}, image)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_failed_probe_leaves_the_mode_too(network: Plain, image: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="unknown module"):
        probe_taps(network.train(), {"deep": "nowhere"}, image)
    assert network.training
    assert _hooks(network) == 0
