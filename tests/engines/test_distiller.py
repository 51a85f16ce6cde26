"""The student with its heads."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet

from monai_difom.engines import Distiller, network_state
from monai_difom.engines.distiller import make_head
from monai_difom.networks.nets import DifomUNet
from monai_difom.targets import DistillationTerm, TargetPipeline

from ..tiny import make_teacher, make_terms


def pipeline(terms: list[DistillationTerm] | None = None) -> TargetPipeline:
    return TargetPipeline({"tiny": make_teacher()}, terms or make_terms(), fuse_channels=6)


def test_every_term_gets_a_map_with_the_channels_of_its_target() -> None:
    distiller = Distiller(DifomUNet(2, 3, 1, (4, 6, 8)), pipeline())
    logits, maps = distiller(torch.rand(2, 3, 32, 32))
    assert logits.shape == (2, 1, 32, 32)
    assert {name: tuple(value.shape) for name, value in maps.items()} == {
        "low": (2, 6, 8, 8),
        "high": (2, 6, 16, 16),
    }


def test_heads_change_nothing_in_the_student() -> None:
    student = DifomUNet(2, 3, 1, (4, 6, 8)).eval()
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(
        Distiller(student, pipeline()).eval()(image)[0], student(image), rtol=0, atol=0
    )


def test_any_network_becomes_a_student_by_the_names_of_its_modules() -> None:
    network = BasicUNet(2, 3, 1, features=(4, 4, 8, 8, 16, 4))
    taps = {"bottleneck": "down_4", "stride2": "down_1"}
    distiller = Distiller(network, pipeline(), taps=taps)
    _, maps = distiller(torch.rand(1, 3, 64, 64))
    assert maps["low"].shape[2:] == (4, 4)
    assert maps["high"].shape[2:] == (32, 32)
    assert all(not key.startswith("heads") for key in network_state(network))


def test_a_student_without_taps_says_how_to_name_them() -> None:
    with pytest.raises(ValueError, match=r"names no taps. Pass taps"):
        Distiller(BasicUNet(2, 3, 1, features=(4, 4, 8, 8, 16, 4)), pipeline())


def test_a_misspelt_tap_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'bottleneck'"):
        Distiller(DifomUNet(2, 3, 1, (4, 6, 8)), pipeline([DistillationTerm("low", tap="botleneck")]))


def test_a_misspelt_frozen_module_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="Did you mean 'encoder'"):
        Distiller(DifomUNet(2, 3, 1, (4, 6, 8)), pipeline()).frozen_modules(("encodr",))


def test_an_identity_head_needs_equal_channels_and_an_unknown_head_is_named() -> None:
    with pytest.raises(ValueError, match="equal channels"):
        make_head("identity", 2, 4, 5)
    with pytest.raises(ValueError, match="Did you mean 'linear'"):
        make_head("linaer", 2, 4, 5)


@pytest.mark.parametrize("kind", ["linear", "conv", "mlp"])
@pytest.mark.parametrize("dims", [2, 3])
def test_heads_keep_the_grid_and_give_the_target_channels(kind: str, dims: int) -> None:
    assert make_head(kind, dims, 4, 5)(torch.rand(1, 4, *[6] * dims)).shape == (1, 5, *[6] * dims)


def test_several_heads_read_one_tap_and_only_the_student_is_exported() -> None:
    terms = [
        DistillationTerm("fine", tap="bottleneck", source="tiny/fine", head="mlp"),
        DistillationTerm("coarse", tap="bottleneck", source="tiny/coarse", head="linear"),
    ]
    student = DifomUNet(2, 3, 1, (4, 6, 8))
    before = set(student.state_dict())
    distiller = Distiller(student, pipeline(terms))
    _, maps = distiller(torch.rand(2, 3, 32, 32))
    assert {n: tuple(m.shape) for n, m in maps.items()} == {"fine": (2, 6, 8, 8), "coarse": (2, 8, 8, 8)}
    assert all((m < 0).any() for m in maps.values())  # a head ends linear: targets are negative too
    assert set(network_state(student)) == before
