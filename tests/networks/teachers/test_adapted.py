"""A network that segments as a teacher: hidden layers, logits, and the identity of its adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet

from monai_difom.networks.lora import adapter_state, add_lora, load_adapters, save_adapters
from monai_difom.networks.teachers import SegmentingTeacher, Teacher
from tests.testers import TeacherTester
from tests.tiny import tiny_sam_segmenter


def adapters(folder: Path, scale: float = 0.3) -> Path:
    network = add_lora(tiny_sam_segmenter(out_channels=2))
    generator = torch.Generator().manual_seed(0)
    for value in adapter_state(network).values():
        value += scale * torch.randn(value.shape, generator=generator)
    return save_adapters(network, folder / "adapters.safetensors")


class TestAdaptedSam(TeacherTester):
    other_size = {"input_size": 48}
    other_maps = {"layers": [1]}

    def save(self, folder: Path) -> None:
        adapters(folder)

    def load(self, folder: Path, **changes: Any) -> Teacher:
        given = {"layers": [1, 2], **changes}
        return SegmentingTeacher(
            tiny_sam_segmenter(out_channels=2), adapters=folder / "adapters.safetensors", **given
        )

    def test_a_bright_corner_changes_the_maps_most_in_that_corner(self, *_: Any) -> None:
        pytest.skip(
            "random decoders of global attention need not; the encoder's maps are tested with the segmenter"
        )


class TestMonaiNetwork(TeacherTester):
    other_size = {"input_size": 32}
    other_maps = {"logits": False}

    def save(self, folder: Path) -> None:
        torch.save(self.network().state_dict(), folder / "unet.pt")

    @staticmethod
    def network() -> torch.nn.Module:
        return BasicUNet(2, 3, 2, features=(4, 4, 8, 8, 8, 4))

    def load(self, folder: Path, **changes: Any) -> Teacher:
        given = {"taps": {"deep": "down_2"}, "multiple_of": 16, **changes}
        return SegmentingTeacher(self.network(), weights=folder / "unet.pt", **given)


def test_the_logits_are_what_the_adapted_network_predicts(tmp_path: Path) -> None:
    file = adapters(tmp_path)
    teacher = SegmentingTeacher(tiny_sam_segmenter(out_channels=2), adapters=file)
    image = torch.rand(2, 3, 64, 64)
    network = load_adapters(tiny_sam_segmenter(out_channels=2), file).eval()
    found = teacher(image)["logits"]
    with torch.no_grad():
        expected = network(teacher.prepare(image))
    assert found.shape == (2, 2, 32, 32)
    bigger = torch.nn.functional.interpolate(found, size=(64, 64), mode="bilinear")
    torch.testing.assert_close(bigger, expected, atol=1e-5, rtol=1e-4)


def test_other_adapters_are_another_teacher(tmp_path: Path) -> None:
    one = SegmentingTeacher(tiny_sam_segmenter(out_channels=2), adapters=adapters(tmp_path))
    two = SegmentingTeacher(tiny_sam_segmenter(out_channels=2), adapters=adapters(tmp_path, 0.4))
    none = SegmentingTeacher(tiny_sam_segmenter(out_channels=2))
    assert len({one.signature, two.signature, none.signature}) == 3
    assert one.adapter
    assert not none.adapter
    assert one.adapter in one.signature_extra()


def test_adapters_leave_no_module_in_the_teacher(tmp_path: Path) -> None:
    teacher = SegmentingTeacher(tiny_sam_segmenter(out_channels=2), adapters=adapters(tmp_path))
    assert not [name for name, _ in teacher.named_modules() if "lora" in name]
    assert sum(p.numel() for p in teacher.parameters()) == sum(
        p.numel() for p in tiny_sam_segmenter(out_channels=2).parameters()
    )


def test_a_layer_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="has no layer 3; it names layer1, layer2"):
        SegmentingTeacher(tiny_sam_segmenter(), layers=[3])
    with pytest.raises(ValueError, match="has no layer 1; it names no layers"):
        SegmentingTeacher(TestMonaiNetwork.network(), layers=[1])
    with pytest.raises(ValueError, match="name layers or taps"):
        SegmentingTeacher(tiny_sam_segmenter(), logits=False)
