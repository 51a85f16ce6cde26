"""Vision transformers of the transformers library, tiny and random, saved as the hub serves them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from monai_difom.networks.teachers import Teacher, ViTTeacher
from tests.testers import TeacherTester

TINY = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 32,
}
TEXT = {**TINY, "vocab_size": 20, "num_hidden_layers": 1, "bos_token_id": 1, "eos_token_id": 2}
PREFIX_TOKENS = {"dinov2": 1, "dinov2_with_registers": 5, "dinov3_vit": 5, "clip": 1, "ijepa": 0, "siglip": 0}
FAMILIES = sorted(PREFIX_TOKENS)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    # without it the hub client waits half a minute before it gives up
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def tiny(family: str) -> Any:
    """A tiny random model of a family; CLIP and SigLIP with their text towers, as they are published."""
    torch.manual_seed(0)
    if family == "clip":
        model = transformers.CLIPModel(transformers.CLIPConfig(vision_config=TINY, text_config=TEXT))
    elif family == "siglip":
        model = transformers.SiglipModel(transformers.SiglipConfig(vision_config=TINY, text_config=TEXT))
    else:
        config = {
            "dinov2": transformers.Dinov2Config,
            "dinov2_with_registers": transformers.Dinov2WithRegistersConfig,
            "dinov3_vit": transformers.DINOv3ViTConfig,
            "ijepa": transformers.IJepaConfig,
        }[family]
        registers = {"num_register_tokens": 4} if PREFIX_TOKENS[family] > 1 else {}
        model = transformers.AutoModel.from_config(config(**TINY, **registers))
    for name, parameter in model.named_parameters():
        if "position" in name or "register" in name or "norm" in name:  # mistakes in these must show
            torch.nn.init.normal_(parameter, mean=1.0 if name.endswith("norm.weight") else 0.0, std=0.3)
    return model.eval()


def source_tokens(model: Any, family: str, pixels: torch.Tensor) -> torch.Tensor:
    """Patch tokens of the model itself, ``(B, N, C)``."""
    vision = model.vision_model if family in ("clip", "siglip") else model
    flag = {"interpolate_pos_encoding": True} if family in ("clip", "ijepa", "siglip") else {}
    with torch.no_grad():
        return vision(pixels, **flag).last_hidden_state[:, PREFIX_TOKENS[family] :]


class ViTTester(TeacherTester):
    family = ""
    other_size = {"input_size": 48}
    other_maps = {"layers": [1]}

    def save(self, folder: Path) -> None:
        tiny(self.family).save_pretrained(folder)

    def load(self, folder: Path, **changes: Any) -> Teacher:
        return ViTTeacher(str(folder), **changes)


class TestDinov2(ViTTester):
    family = "dinov2"


class TestDinov2WithRegisters(ViTTester):
    family = "dinov2_with_registers"


class TestDinov3(ViTTester):
    family = "dinov3_vit"


class TestClip(ViTTester):
    family = "clip"


class TestIJepa(ViTTester):
    family = "ijepa"


class TestSiglip(ViTTester):
    family = "siglip"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(32, 32), (64, 40)], ids=["trained size", "other size"])
def test_tokens_lie_row_by_row_and_equal_those_of_the_source_model(
    family: str, size: tuple[int, int], tmp_path: Path
) -> None:
    model = tiny(family)
    model.save_pretrained(tmp_path)
    teacher = ViTTeacher(str(tmp_path))
    image = torch.rand(2, 3, *size)
    expected = source_tokens(model, family, teacher.prepare(image))
    found = teacher(image)["tokens"]
    assert found.shape == (2, 16, size[0] // 8, size[1] // 8)
    for row in range(found.shape[2]):
        for column in range(found.shape[3]):
            token = expected[:, row * found.shape[3] + column]
            torch.testing.assert_close(found[:, :, row, column], token, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_layer_becomes_the_tokens_by_the_final_norm(family: str, tmp_path: Path) -> None:
    model = tiny(family)
    model.save_pretrained(tmp_path)
    found = ViTTeacher(str(tmp_path), layers=[1, 2])(torch.rand(1, 3, 32, 48))
    assert list(found) == ["tokens", "layer1", "layer2"]
    norms = (getattr(model, "layernorm", None), getattr(model, "norm", None), torch.nn.Identity())
    norm = (
        model.vision_model.post_layernorm if family == "siglip" else next(n for n in norms if n is not None)
    )
    with torch.no_grad():
        normed = norm(found["layer2"].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(found["tokens"], normed, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found["layer1"], found["layer2"])


IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


@pytest.mark.parametrize(
    ("family", "processor", "published"),
    [  # what the published configuration sets beside the processor's own defaults
        ("dinov2", "BitImageProcessor", IMAGENET),
        ("dinov2_with_registers", "BitImageProcessor", IMAGENET),
        ("dinov3_vit", "DINOv3ViTImageProcessor", {}),
        ("ijepa", "ViTImageProcessor", {**IMAGENET, "resample": 3}),
        ("clip", "CLIPImageProcessor", {}),
        ("siglip", "SiglipImageProcessor", {}),
    ],
)
def test_normalisation_equals_the_librarys_own_processor(
    family: str, processor: str, published: dict, tmp_path: Path
) -> None:
    tiny(family).save_pretrained(tmp_path)
    family_default = ViTTeacher(str(tmp_path)).contract  # the family's, before there is a preprocessor file
    same = {"do_resize": False, "do_center_crop": False, "do_convert_rgb": False, **published}
    getattr(transformers, processor)(**same).save_pretrained(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    expected = transformers.AutoImageProcessor.from_pretrained(tmp_path)(pixels, return_tensors="pt")[
        "pixel_values"
    ]
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    teacher = ViTTeacher(str(tmp_path))
    torch.testing.assert_close(teacher.prepare(image), expected, atol=1e-5, rtol=1e-5)
    assert family_default.mean == pytest.approx(teacher.contract.mean)
    assert family_default.std == pytest.approx(teacher.contract.std)
    assert family_default.interpolation == teacher.contract.interpolation


def test_rad_dino_takes_its_own_mean_and_deviation_and_none_may_be_guessed(tmp_path: Path) -> None:
    folder = tmp_path / "rad-dino"
    tiny("dinov2").save_pretrained(folder)
    with pytest.raises(
        ValueError, match=r"rad-dino has no preprocessor_config.json.*own.*give `mean` and `std`"
    ):
        ViTTeacher(str(folder))
    own = {"image_mean": [0.4] * 3, "image_std": [0.2] * 3, "do_resize": False, "do_center_crop": False}
    transformers.BitImageProcessor(**own, do_convert_rgb=False).save_pretrained(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    expected = transformers.AutoImageProcessor.from_pretrained(folder)(pixels, return_tensors="pt")[
        "pixel_values"
    ]
    teacher = ViTTeacher(str(folder))
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(teacher.prepare(image), expected, atol=1e-5, rtol=1e-5)
    assert teacher.licence == "MIT"


def test_a_folder_without_a_preprocessor_file_says_that_the_familys_normalisation_is_taken(
    tmp_path: Path,
) -> None:
    tiny("dinov2").save_pretrained(tmp_path)
    with pytest.warns(
        UserWarning, match=r"no preprocessor_config.json: the mean and deviation of its family"
    ):
        ViTTeacher(str(tmp_path))


def test_the_preprocessor_file_beats_the_family_and_arguments_beat_both(tmp_path: Path) -> None:
    tiny("dinov2").save_pretrained(tmp_path)
    assert ViTTeacher(str(tmp_path)).contract.interpolation == "bicubic"
    written = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 2}
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "BitImageProcessor", **written})
    )
    contract = ViTTeacher(str(tmp_path)).contract
    assert (contract.mean, contract.std, contract.interpolation) == (
        (0.1, 0.2, 0.3),
        (0.4, 0.5, 0.6),
        "bilinear",
    )
    assert ViTTeacher(str(tmp_path), mean=[0.5] * 3).contract.mean == (0.5, 0.5, 0.5)


def test_half_precision_files_still_give_float32_maps(tmp_path: Path) -> None:
    tiny("dinov2").half().save_pretrained(tmp_path)
    assert ViTTeacher(str(tmp_path))(torch.rand(1, 3, 32, 32))["tokens"].dtype == torch.float32


def test_a_folder_without_weights_says_that_a_file_is_lacking(tmp_path: Path) -> None:
    tiny("dinov2").config.save_pretrained(tmp_path)
    with pytest.raises(OSError, match=r"lacks a file: .*model.safetensors"):
        ViTTeacher(str(tmp_path))


def test_a_weight_file_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    tiny("dinov2").config.save_pretrained(tmp_path)
    torch.save({"layernorm.weight": Code()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"cannot be loaded"):
        ViTTeacher(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_weights_that_lack_keys_are_refused_by_name(tmp_path: Path) -> None:
    tiny("dinov2").save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state["final.weight"] = state.pop("layernorm.weight")
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack 1 keys of Dinov2Model \(first: layernorm.weight\)"):
        ViTTeacher(str(tmp_path))


def test_a_model_of_another_family_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    transformers.ResNetConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"'resnet'.*Allowed: clip, .*dinov3_vit"):
        ViTTeacher(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": [0]}, "blocks 1 to 2"),
        ({"layers": [3]}, "blocks 1 to 2"),
        ({"input_size": 30}, "multiples of 8"),
    ],
)
def test_arguments_that_are_not_allowed_name_what_is(changes: Any, message: str, tmp_path: Path) -> None:
    tiny("dinov2").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        ViTTeacher(str(tmp_path), **changes)


@pytest.mark.parametrize(
    ("family", "folder", "licence"),
    [
        ("dinov2", "dinov2-base", "Apache-2.0"),
        ("dinov2", "dinov2-giant", "Apache-2.0"),
        ("dinov2", "someones-dinov2", "see model card"),
        ("siglip", "siglip2-base-patch16-224", "Apache-2.0"),
        ("dinov3_vit", "mine", "DINOv3 License"),
        ("clip", "clip-vit-base-patch16", "MIT"),
    ],
)
def test_the_licence_is_the_publishers_and_not_that_of_the_family(
    family: str, folder: str, licence: str, tmp_path: Path
) -> None:
    tiny(family).save_pretrained(tmp_path / folder)
    assert ViTTeacher(str(tmp_path / folder)).licence == licence
