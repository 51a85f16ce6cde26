"""DINOv3 ConvNeXt, tiny and random, saved as the hub serves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from monai_difom.networks.teachers import ConvNextTeacher, Teacher
from tests.testers import TeacherTester


def tiny() -> Any:
    torch.manual_seed(0)
    config = transformers.DINOv3ConvNextConfig(hidden_sizes=[4, 8, 12, 16], depths=[1, 1, 1, 1])
    model = transformers.DINOv3ConvNextModel(config)
    for name, parameter in model.named_parameters():
        if "gamma" in name or "norm" in name:  # they start at next to nothing or at one: mistakes must show
            torch.nn.init.normal_(parameter, mean=0.5, std=0.3)
    return model.eval()


class TestConvNext(TeacherTester):
    other_size = {"input_size": 128}
    other_maps = {"maps": ["stride8"]}

    def save(self, folder: Path) -> None:
        tiny().save_pretrained(folder)

    def load(self, folder: Path, **changes: Any) -> Teacher:
        return ConvNextTeacher(str(folder), **{"maps": ["stride4", "stride8"], **changes})


def test_the_image_is_prepared_and_read_as_the_librarys_own_processor_and_model_do(tmp_path: Path) -> None:
    model = tiny()
    model.save_pretrained(tmp_path)
    processor = transformers.DINOv3ViTImageProcessor(do_resize=False)
    processor.save_pretrained(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    expected = processor(pixels, return_tensors="pt")["pixel_values"]
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    teacher = ConvNextTeacher(str(tmp_path))
    torch.testing.assert_close(teacher.prepare(image), expected, atol=1e-5, rtol=1e-5)
    found = teacher(image)
    with torch.no_grad():
        tokens = model(expected).last_hidden_state[:, 1:]
    assert tokens.std() > 1e-3
    torch.testing.assert_close(found["stride32"].flatten(2).transpose(1, 2), tokens, atol=1e-5, rtol=1e-5)
    assert {name: tuple(value.shape[1:]) for name, value in found.items()} == {
        "stride4": (4, 16, 24),
        "stride8": (8, 8, 12),
        "stride16": (12, 4, 6),
        "stride32": (16, 2, 3),
    }


def test_its_licence_is_dinov3s_whatever_the_folder_is_called(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path / "mine")
    assert ConvNextTeacher(str(tmp_path / "mine")).licence == "DINOv3 License"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"maps": ["stride2"]}, "Allowed: stride16"), ({"input_size": 100}, "multiples of 32")],
)
def test_arguments_that_are_not_allowed_name_what_is(changes: Any, message: str, tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        ConvNextTeacher(str(tmp_path), **changes)
