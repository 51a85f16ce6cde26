"""The teacher contract on a teacher that is one convolution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from monai_difom.networks.teachers import InputContract, Teacher, TeacherMap
from monai_difom.networks.teachers.base import fixed_size
from tests.testers import TeacherTester


class OneConvolution(Teacher):
    def __init__(self, state: dict[str, torch.Tensor], size: Any = None, name: str = "map") -> None:
        contract = InputContract(size=size, multiple_of=8)
        super().__init__({name: TeacherMap(4, 8)}, contract, "none", "a test")
        self.name = name
        self.convolution = nn.Conv2d(3, 4, 8, stride=8)
        self.convolution.load_state_dict(state)
        self.freeze()

    def extract(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        return {self.name: self.convolution(image)}


def one_convolution(**arguments: Any) -> OneConvolution:
    torch.manual_seed(0)
    return OneConvolution(nn.Conv2d(3, 4, 8).state_dict(), **arguments)


class TestOneConvolution(TeacherTester):
    other_size = {"size": (32, 32)}
    other_maps = {"name": "other"}

    def save(self, folder: Path) -> None:
        torch.save(nn.Conv2d(3, 4, 8).state_dict(), folder / "weights.pt")

    def load(self, folder: Path, **changes: Any) -> Teacher:
        return OneConvolution(torch.load(folder / "weights.pt", weights_only=True), **changes)


def test_without_a_fixed_size_sides_go_to_the_nearest_multiple_and_at_least_one() -> None:
    assert one_convolution().input_size((61, 3)) == (64, 8)


def test_a_fixed_size_squashes_the_whole_image_without_crop_or_padding() -> None:
    image = torch.zeros(1, 3, 64, 128)
    image[..., 64:] = 1
    prepared = one_convolution(size=(32, 32)).prepare(image)
    mean = prepared.new_tensor([0.485, 0.456, 0.406]).view(1, 3, 1)
    std = prepared.new_tensor([0.229, 0.224, 0.225]).view(1, 3, 1)
    torch.testing.assert_close(prepared[..., 0], (-mean / std).expand(1, 3, 32))
    torch.testing.assert_close(prepared[..., -1], ((1 - mean) / std).expand(1, 3, 32))


def test_shrinking_removes_what_is_above_the_new_nyquist_frequency() -> None:
    stripes = (torch.arange(128) % 2).float().expand(1, 3, 64, 128)
    teacher = one_convolution(size=(32, 32))
    flat = teacher.prepare(torch.full((1, 3, 64, 128), 0.5))
    assert (teacher.prepare(stripes) - flat)[..., 2:-2].abs().max() < 0.05


@pytest.mark.parametrize(
    ("size", "expected"), [(None, None), (32, (32, 32)), ([32, 48], (32, 48)), ((48, 32), (48, 32))]
)
def test_a_fixed_size_is_one_side_or_two(size: Any, expected: Any) -> None:
    assert fixed_size(size, 16) == expected


@pytest.mark.parametrize("size", [30, 0, -16, [32, 30], [32, 32, 32]])
def test_a_size_that_maps_would_not_cover_is_refused_with_the_nearest(size: Any) -> None:
    with pytest.raises(ValueError, match=r"multiples of 16, or None. Nearest: \[?(16|32)"):
        fixed_size(size, 16)


class Faulty(OneConvolution):
    fault = "missing"

    def extract(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        found = super().extract(image)["map"]
        faults = {
            "missing": {"other": found},
            "channels": {"map": found[:, :2]},
            "nan": {"map": found * torch.nan},
        }
        return faults[self.fault]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("missing", "gave no map 'map'; it gave other"),
        ("channels", "declared are 4 channels"),
        ("nan", "NaN"),
    ],
)
def test_a_teacher_that_breaks_its_promise_stops_with_its_name(fault: str, message: str) -> None:
    teacher = Faulty(nn.Conv2d(3, 4, 8).state_dict())
    teacher.fault = fault
    with pytest.raises(RuntimeError, match=rf"Faulty\(a test\).*{message}"):
        teacher(torch.rand(1, 3, 32, 32))


def test_a_teacher_without_maps_is_refused() -> None:
    class Empty(Teacher):
        def extract(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            return {}

    with pytest.raises(ValueError, match="at least one map"):
        Empty({}, InputContract(), "none", "a test")
