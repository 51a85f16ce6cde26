"""The U-Net++ student, and the published checkpoint that it loads."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from monai_difom.networks.nets import DifomUNetPlusPlus, load_published_unetpp
from monai_difom.networks.taps import read_taps
from tests.testers import StudentTester

State = dict[str, torch.Tensor]


class UNetPlusPlusTester(StudentTester):
    def make(self, **changes: Any) -> nn.Module:
        arguments = {"out_channels": 2, "features": (4, 5, 6, 7, 8), "latent_channels": 3}
        return DifomUNetPlusPlus(**{**arguments, **changes})


class TestUNetPlusPlus(UNetPlusPlusTester):
    exports = True


class TestUNetPlusPlusWithSideLatents(UNetPlusPlusTester):
    latents = "side"


class TestUNetPlusPlusWithInlineLatents(UNetPlusPlusTester):
    latents = "inline"


class TestVolumeUNetPlusPlus(UNetPlusPlusTester):
    spatial_dims = 3
    latents = "side"
    image_size = (8, 16, 8)
    wrong_size = (8, 15, 9)
    nearest = "8x8x8 or 8x16x16"

    def make(self, **changes: Any) -> nn.Module:
        return super().make(**{"features": (4, 5, 6, 7), **changes})


# -- the published checkpoint, described anew: names and shapes as the notebook's class would save them ----


def published_shapes(
    widths: Sequence[int] = (32, 64, 128, 256, 512), fused: int = 1033, latent: int = 256
) -> dict[str, tuple[int, ...]]:
    """Key -> shape of a published U-Net++ checkpoint."""
    shapes: dict[str, tuple[int, ...]] = {}
    for column in range(len(widths)):
        for level in range(len(widths) - column):
            wide = widths[level]
            first = (widths[level - 1] if level else 3) if column == 0 else column * wide + widths[level + 1]
            for number, before in ((1, first), (2, wide)):
                block = f"conv{level}_{column}"
                shapes[f"{block}.conv{number}.weight"] = (wide, before, 3, 3)
                shapes[f"{block}.conv{number}.bias"] = (wide,)
                for part in ("weight", "bias", "running_mean", "running_var"):
                    shapes[f"{block}.bn{number}.{part}"] = (wide,)
                shapes[f"{block}.bn{number}.num_batches_tracked"] = ()
    for name, out, before in (
        ("final", 1, widths[0]),
        ("linear.0", latent, fused),
        ("linear1.0", latent, widths[-1]),
        ("linear2", latent, latent),
    ):
        shapes[f"{name}.weight"] = (out, before, 1, 1)
        shapes[f"{name}.bias"] = (out,)
    return shapes


def random_state(shapes: dict[str, tuple[int, ...]]) -> State:
    """Random weights; variances are positive."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, shape in shapes.items():
        if not shape:
            state[key] = torch.tensor(7)
        elif key.endswith(("running_var", "bn1.weight", "bn2.weight")):
            state[key] = torch.rand(shape, generator=generator) + 0.5
        else:
            state[key] = 0.3 * torch.randn(shape, generator=generator)
    return state


def published_forward(state: State, x: torch.Tensor, levels: int) -> dict[str, torch.Tensor]:
    """The nested U-Net of the notebook in eval mode, written from the paper's figure: logits and latents."""

    def block(name: str, x: torch.Tensor) -> torch.Tensor:
        for n in (1, 2):
            x = F.conv2d(x, state[f"{name}.conv{n}.weight"], state[f"{name}.conv{n}.bias"], padding=1)
            statistics = state[f"{name}.bn{n}.running_mean"], state[f"{name}.bn{n}.running_var"]
            x = F.batch_norm(x, *statistics, state[f"{name}.bn{n}.weight"], state[f"{name}.bn{n}.bias"])
            x = F.relu(x)
        return x

    node: dict[tuple[int, int], torch.Tensor] = {}
    for i in range(levels):
        x = block(f"conv{i}_0", x if i == 0 else F.max_pool2d(x, 2, 2))
        node[i, 0] = x
    # along diagonals, as the figure is usually read; the network runs column by column
    for depth in range(1, levels):
        for j in range(1, depth + 1):
            i = depth - j
            up = F.interpolate(node[i + 1, j - 1], scale_factor=2, mode="bilinear", align_corners=True)
            node[i, j] = block(f"conv{i}_{j}", torch.cat([*(node[i, k] for k in range(j)), up], 1))
    logits = F.conv2d(node[0, levels - 1], state["final.weight"], state["final.bias"])
    first = F.relu(F.conv2d(node[levels - 1, 0], state["linear1.0.weight"], state["linear1.0.bias"]))
    return {
        "logits": logits,
        "L1": first,
        "L2": F.conv2d(first, state["linear2.weight"], state["linear2.bias"]),
    }


@pytest.fixture(scope="session")
def published_keys() -> dict[str, Any]:
    """Keys and shapes of the real checkpoint; the test is skipped where the list is absent."""
    shared = Path(os.environ.get("DIFOM_TEST_DATA", Path(__file__).parents[4] / "shared" / "data")).parent
    file = shared / "reference" / "checkpoint_keys" / "polypdifom_unetpp_3f.json"
    if not file.is_file():
        pytest.skip(f"no list of published keys at {file}")
    return json.loads(file.read_text())


def test_the_description_here_is_the_published_one(published_keys: dict[str, Any]) -> None:
    assert published_shapes() == {key: tuple(shape) for key, shape in published_keys["keys"].items()}
    assert published_keys["parameters"] == 9_625_153


def _parameters(shapes: dict[str, tuple[int, ...]]) -> int:
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    return sum(torch.Size(shape).numel() for key, shape in shapes.items() if not key.endswith(buffers))


def test_student_and_fusion_layer_have_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        network = DifomUNetPlusPlus(latents="side")
    fusion = 1033 * 256 + 256
    assert sum(parameter.numel() for parameter in network.parameters()) + fusion == 9_625_153
    assert _parameters(published_shapes()) == 9_625_153


def test_every_published_key_finds_its_place_in_the_default_network() -> None:
    state = {key: torch.empty(shape, device="meta") for key, shape in published_shapes().items()}
    for latents in ("side", "none"):
        with torch.device("meta"):
            network = DifomUNetPlusPlus(latents=latents)  # type: ignore[arg-type]
        assert load_published_unetpp(network, state) is network


WIDTHS = (3, 4, 5, 6, 7)


@pytest.fixture
def small() -> State:
    return random_state(published_shapes(WIDTHS, fused=9, latent=4))


def _network(latents: Any) -> DifomUNetPlusPlus:
    return DifomUNetPlusPlus(features=WIDTHS, latents=latents, latent_channels=4).eval()


@torch.no_grad()
@pytest.mark.parametrize("latents", ["side", "none"])
def test_a_loaded_network_computes_what_the_published_one_does(
    small: State, latents: str, tmp_path: Path
) -> None:
    torch.save(small, tmp_path / "published.pth")
    network = load_published_unetpp(_network(latents), tmp_path / "published.pth")
    image = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    expected = published_forward(small, image, len(WIDTHS))
    logits, maps = read_taps(network, image, network.taps)
    scale = float(expected["logits"].abs().max())
    torch.testing.assert_close(logits, expected["logits"], atol=1e-5 * max(1.0, scale), rtol=0)
    for name in ("L1", "L2") if latents == "side" else ():
        torch.testing.assert_close(maps[name], expected[name], rtol=1e-4, atol=1e-4)


def test_corners_are_aligned_as_published_unless_asked_otherwise(small: State) -> None:
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    aligned, other = _network("none"), DifomUNetPlusPlus(features=WIDTHS, align_corners=False).eval()
    found = [load_published_unetpp(network, small)(image) for network in (aligned, other)]
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    "key", ["conv0_0.conv3.weight", "conv9_9.conv1.weight", "module.final.weight", "final"]
)
def test_a_strange_key_is_refused_and_named(small: State, key: str) -> None:
    with pytest.raises(ValueError, match=rf"1 keys have no place \({key}\), 0 parameters have no key"):
        load_published_unetpp(_network("side"), {**small, key: torch.zeros(1)})


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("conv1_2.bn2.running_var", "decoder.1.1.norm2.running_var"),
        ("conv4_0.conv1.bias", "encoder.4.conv1.bias"),
        ("final.weight", "head.weight"),
        ("linear1.0.weight", "latents.L1.0.weight"),
    ],
)
def test_a_missing_key_is_refused_and_its_place_is_named(small: State, key: str, place: str) -> None:
    del small[key]
    with pytest.raises(ValueError, match=rf"0 keys have no place .* 1 parameters have no key \({place}\)"):
        load_published_unetpp(_network("side"), small)


def test_a_checkpoint_of_other_widths_is_refused(small: State) -> None:
    with pytest.raises(ValueError, match="for a network of these widths"):
        load_published_unetpp(DifomUNetPlusPlus(features=(3, 4, 5, 6, 8)), small)


def test_a_refused_checkpoint_leaves_the_network_as_it_was(small: State) -> None:
    network = _network("none")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    del small["final.bias"]
    with pytest.raises(ValueError, match="no published"):
        load_published_unetpp(network, small)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
