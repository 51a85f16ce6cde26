"""A network of volumes keeps the contract of teachers, in three dimensions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from monai_difom.networks.teachers import NetworkTeacher, bundle_teacher
from monai_difom.targets import DistillationTerm, TargetPipeline
from tests.volumes import make_teacher_bundle


def make(**changes: object) -> NetworkTeacher:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv3d(1, 4, 3, 2, 1), nn.Tanh(), nn.Conv3d(4, 6, 3, 2, 1), nn.Tanh())
    given = {"mean": [0.2], "std": [0.5], "multiple_of": 4, "spatial_dims": 3, "in_channels": 1}
    return NetworkTeacher(network, {"fine": "1", "coarse": "3"}, **{**given, **changes})


def test_maps_cover_the_volume_at_the_declared_stride() -> None:
    teacher = make()
    volume = torch.rand(2, 1, 16, 12, 8)
    found = teacher(volume)
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "fine": (2, 4, 8, 6, 4),
        "coarse": (2, 6, 4, 3, 2),
    }
    torch.testing.assert_close(found["fine"], teacher.network[:2]((volume - 0.2) / 0.5))


def test_a_size_that_is_no_multiple_is_resampled_and_a_fixed_one_kept() -> None:
    assert make()(torch.rand(1, 1, 15, 13, 8))["coarse"].shape[2:] == (4, 3, 2)
    assert make(input_size=[8, 8, 16])(torch.rand(1, 1, 20, 20, 20))["fine"].shape[2:] == (4, 4, 8)
    assert make().signature != make(input_size=8).signature
    with pytest.raises(ValueError, match="allowed are one side or 3 of them, multiples of 4"):
        make(input_size=[8, 8])


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (torch.rand(1, 3, 8, 8, 8), r"takes a float batch \(B, 1, D, H, W\)"),
        (torch.rand(1, 1, 8, 8), r"takes a float batch \(B, 1, D, H, W\)"),
        (100 * torch.rand(1, 1, 8, 8, 8), r"takes volumes in \[0, 1\]"),
    ],
)
def test_other_volumes_are_refused(volume: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()(volume)


def test_images_have_three_channels_whatever_the_network() -> None:
    with pytest.raises(ValueError, match="allowed are images of 3 channels"):
        make(spatial_dims=2)
    with pytest.raises(ValueError, match="with 3 means"):
        make(mean=[0, 0, 0])


def test_a_bundle_folder_of_volumes_is_a_teacher(tmp_path: Path) -> None:
    taps = {"stride4": "model.1.submodule.0"}
    given = {"mean": [0.0], "std": [1.0], "spatial_dims": 3, "in_channels": 1, "multiple_of": 16}
    teacher = bundle_teacher(make_teacher_bundle(tmp_path / "bundle"), taps, **given)
    assert teacher(torch.rand(1, 1, 16, 32, 16))["stride4"].shape == (1, 6, 4, 8, 4)


def test_targets_of_volumes_are_standardised_fused_and_split_into_bands_that_add_up() -> None:
    terms = [
        DistillationTerm(band, tap="x", source="fused", band=band, cutoff=0.25) for band in ("low", "high")
    ]
    whole = DistillationTerm("whole", tap="x", source="fused")
    targets = TargetPipeline({"volume": make()}, [*terms, whole], fuse_channels=4, fit_images=4)
    volumes = [torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(n)) for n in range(2)]
    assert targets.fit(volumes)["images"] == 4
    found = targets(volumes[0], dict.fromkeys(("low", "high", "whole"), (6, 6, 6)))
    assert found["whole"].shape == (2, 4, 6, 6, 6)
    torch.testing.assert_close(found["low"] + found["high"], found["whole"])
