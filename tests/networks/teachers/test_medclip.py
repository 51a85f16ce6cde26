"""MedCLIP, tiny and random, in the layout of its published file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
import transformers
from PIL import Image
from safetensors.torch import load_file

from monai_difom.networks.teachers import MedCLIPTeacher, Teacher
from tests.testers import TeacherTester

TINY = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 2}
MEAN, STD = 0.5862785803043838, 0.27950088968644304


def tiny_swin() -> Any:
    torch.manual_seed(0)
    model = transformers.SwinModel(transformers.SwinConfig(**TINY))
    for name, parameter in model.named_parameters():
        if "relative_position" in name or "norm" in name:
            torch.nn.init.normal_(parameter, mean=1.0 if name.endswith("norm.weight") else 0.0, std=0.3)
    return model.eval()


def published(model: Any, folder: Path) -> dict[str, torch.Tensor]:
    """The file's tensors: the Swin under its published keys, the projection, and some of the text tower."""
    model.save_pretrained(folder / "swin")
    state = {
        f"vision_model.model.{key}": value
        for key, value in load_file(folder / "swin" / "model.safetensors").items()
    }
    torch.manual_seed(1)
    state["vision_model.projection_head.weight"] = torch.randn(512, 64)
    return {**state, "text_model.projection_head.weight": torch.randn(4, 4), "logit_scale": torch.tensor(1.0)}


def save_swin(folder: Path) -> Any:
    model = tiny_swin()
    torch.save(published(model, folder), folder / "pytorch_model.bin")
    return model


def save_resnet(folder: Path) -> Any:
    torch.manual_seed(0)
    model = torchvision.models.resnet50()
    model.fc = torch.nn.Linear(2048, 512, bias=False)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
            module.running_mean.normal_(std=0.1)
    state = {f"vision_model.model.{key}": value for key, value in model.state_dict().items()}
    torch.save({**state, "logit_scale": torch.tensor(1.0)}, folder / "pytorch_model.bin")
    return model.eval()


class TestMedCLIPSwin(TeacherTester):
    image_size = (64, 96)
    other_size = {"input_size": 128}
    other_maps = {"maps": ["embedding"]}

    def save(self, folder: Path) -> None:
        save_swin(folder)

    def load(self, folder: Path, **changes: Any) -> Teacher:
        return MedCLIPTeacher(folder, **{"input_size": 64, "architecture": TINY, **changes})


def test_the_keys_are_those_of_the_published_file(tmp_path: Path) -> None:
    # transformers has renamed its own since; it still reads and writes these
    keys = published(tiny_swin(), tmp_path)
    block = "vision_model.model.encoder.layers.0.blocks.0."
    assert {
        "vision_model.model.embeddings.patch_embeddings.projection.weight",
        f"{block}attention.self.query.weight",
        f"{block}attention.self.relative_position_bias_table",
        f"{block}attention.output.dense.weight",
        f"{block}intermediate.dense.weight",
        f"{block}output.dense.bias",
        "vision_model.model.encoder.layers.0.downsample.reduction.weight",
        "vision_model.model.layernorm.weight",
    } <= set(keys)


def test_old_files_that_hold_the_position_index_load_as_well(tmp_path: Path) -> None:
    save_swin(tmp_path)
    state = torch.load(tmp_path / "pytorch_model.bin")
    index = "vision_model.model.encoder.layers.0.blocks.0.attention.self.relative_position_index"
    torch.save({**state, index: torch.zeros(4, 4, dtype=torch.long)}, tmp_path / "pytorch_model.bin")
    MedCLIPTeacher(tmp_path, architecture=TINY)


def test_a_square_image_is_prepared_as_the_published_processor_does_and_gives_the_published_embedding(
    tmp_path: Path,
) -> None:
    model = save_swin(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    grey = np.asarray(Image.fromarray(pixels).convert("L"), dtype=np.float32) / 255
    expected = torch.from_numpy((grey - MEAN) / STD)[None, None].expand(1, 3, 64, 64)
    teacher = MedCLIPTeacher(
        tmp_path, ["stride16", "stride32", "embedding"], input_size=64, architecture=TINY
    )
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    # the published one rounds grey to whole levels
    torch.testing.assert_close(teacher.prepare(image), expected, atol=0.51 / 255 / STD, rtol=0)
    prepared = teacher.prepare(image)
    with torch.no_grad():
        output = model(prepared)
    found = teacher(image)
    torch.testing.assert_close(
        found["stride32"].flatten(2).transpose(1, 2), output.last_hidden_state, atol=1e-5, rtol=1e-5
    )
    assert output.last_hidden_state.std() > 1e-2
    head = torch.load(tmp_path / "pytorch_model.bin")["vision_model.projection_head.weight"]
    torch.testing.assert_close(
        found["embedding"].mean((2, 3)), output.pooler_output @ head.T, atol=1e-4, rtol=1e-4
    )
    merged = model.encoder.layers[2].downsample(found["stride16"].flatten(2).transpose(1, 2), (4, 4))
    torch.testing.assert_close(
        merged, model.encoder.layers[2](_stage_input(model, prepared), (4, 4))[0], atol=1e-4, rtol=1e-4
    )


@torch.no_grad()
def _stage_input(model: Any, image: torch.Tensor) -> torch.Tensor:
    """What the third stage of a Swin gets."""
    return model(image, output_hidden_states=True).hidden_states[2]


def test_the_resnet_gives_its_last_two_stages_and_the_published_models_embedding(tmp_path: Path) -> None:
    model = save_resnet(tmp_path)
    teacher = MedCLIPTeacher(
        tmp_path / "pytorch_model.bin", ["stride16", "stride32", "embedding"], input_size=(64, 96)
    )
    image = torch.rand(1, 3, 64, 96)
    found = teacher(image)
    assert {name: tuple(value.shape[1:]) for name, value in found.items()} == {
        "stride16": (1024, 4, 6),
        "stride32": (2048, 2, 3),
        "embedding": (512, 2, 3),
    }
    with torch.no_grad():
        expected = model(teacher.prepare(image))
    torch.testing.assert_close(found["embedding"].mean((2, 3)), expected, atol=1e-3, rtol=1e-3)


def test_the_default_is_the_published_shape() -> None:
    from monai_difom.networks.teachers import medclip

    with torch.device("meta"):
        model = transformers.SwinModel(transformers.SwinConfig(**medclip._SWIN_TINY))
    assert sum(p.numel() for p in model.parameters()) == 27_519_354  # microsoft/swin-tiny-patch4-window7-224


def test_a_missing_file_is_named_with_where_to_get_it_and_what_takes_its_path(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"pytorch_model.bin.*pytrial/medclip-vit-pretrained.zip.*--medclip_weights"
    ):
        MedCLIPTeacher(tmp_path)


def test_without_weights_the_error_says_where_they_are() -> None:
    with pytest.raises(ValueError, match=r"needs weights=.*pytrial/medclip-pretrained.zip"):
        MedCLIPTeacher()


def _drop(state: dict[str, torch.Tensor], key: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if name != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"a.weight": torch.zeros(1)}, "holds no MedCLIP"),
        (
            lambda s: _drop(s, "vision_model.model.layernorm.bias"),
            r"lack 1 keys of SwinModel \(first: layernorm.bias\)",
        ),
        (
            lambda s: _drop(s, "vision_model.projection_head.weight"),
            "should have a projection of 64 channels and has none",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    save_swin(tmp_path)
    torch.save(change(torch.load(tmp_path / "pytorch_model.bin")), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=message):
        MedCLIPTeacher(tmp_path, architecture=TINY)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    save_swin(tmp_path)
    with pytest.raises(ValueError, match=r"pytorch_model.bin does not fit a Swin of"):
        MedCLIPTeacher(tmp_path, architecture={**TINY, "embed_dim": 16})
