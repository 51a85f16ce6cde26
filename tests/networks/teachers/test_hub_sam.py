"""The transformers library's SAM and SAM 2, tiny and random, saved as the hub serves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from monai_difom.networks.teachers import HubSAMTeacher, Teacher
from tests.testers import TeacherTester

SAM = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "global_attn_indexes": [1],
    "image_size": 64,
    "patch_size": 16,
    "output_channels": 8,
    "window_size": 2,
    "initializer_range": 0.2,  # the library's own is 1e-10, in which no mistake would show
}
SAM2 = {
    "hidden_size": 8,
    "num_attention_heads": 1,
    "blocks_per_stage": [1, 1, 2, 1],
    "embed_dim_per_stage": [8, 16, 32, 64],
    "num_attention_heads_per_stage": [1, 1, 2, 2],
    "window_size_per_stage": [8, 4, 4, 2],
    "global_attention_blocks": [3],
    "image_size": [64, 64],
    "window_positional_embedding_background_size": [2, 2],
}


def _shake(model: Any) -> Any:
    """Make embeddings random that start at zero, where a mistake in them would not show."""
    for name, parameter in model.named_parameters():
        if "pos" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


def tiny_sam() -> Any:
    torch.manual_seed(0)
    decoder = {
        "hidden_size": 8,
        "mlp_dim": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "iou_head_hidden_dim": 8,
    }
    prompt = {"hidden_size": 8, "image_size": 64, "patch_size": 16}
    return _shake(
        transformers.SamModel(
            transformers.SamConfig(
                vision_config=SAM, mask_decoder_config=decoder, prompt_encoder_config=prompt
            )
        )
    )


def tiny_sam2(kind: str = "sam2") -> Any:
    torch.manual_seed(0)
    vision = transformers.Sam2VisionConfig(
        backbone_config=transformers.Sam2HieraDetConfig(**SAM2),
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=8,
    )
    decoder = {"hidden_size": 8, "mlp_dim": 8, "num_attention_heads": 1, "iou_head_hidden_dim": 8}
    prompt = {"hidden_size": 8, "image_size": 64, "patch_size": 16}
    if kind == "sam2_vision_model":
        return _shake(transformers.Sam2VisionModel(vision))
    config: Any = transformers.Sam2Config(
        vision_config=vision, mask_decoder_config=decoder, prompt_encoder_config=prompt
    )
    return _shake(transformers.Sam2Model(config))


class TestHubSam(TeacherTester):
    other_size = {"input_size": 96}

    def save(self, folder: Path) -> None:
        tiny_sam().save_pretrained(folder)

    def load(self, folder: Path, **changes: Any) -> Teacher:
        return HubSAMTeacher(str(folder), **changes)


class TestHubSam2(TestHubSam):
    other_maps = {"maps": ["stride8"]}

    def save(self, folder: Path) -> None:
        tiny_sam2().save_pretrained(folder)


@pytest.mark.parametrize(
    ("make", "processor"),
    [
        (
            tiny_sam,
            transformers.SamImageProcessor(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}),
        ),
        (tiny_sam2, transformers.Sam2ImageProcessor(size={"height": 64, "width": 64})),
    ],
    ids=["sam", "sam2"],
)
def test_a_square_image_is_prepared_and_read_as_the_librarys_own_processor_and_model_do(
    make: Any, processor: Any, tmp_path: Path
) -> None:
    model = make()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    teacher = HubSAMTeacher(str(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    expected = processor(pixels, return_tensors="pt")["pixel_values"]
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(teacher.prepare(image), expected, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        output = model.vision_encoder(expected)
    own = output.last_hidden_state if make is tiny_sam else output.fpn_hidden_states[-1]
    (found,) = teacher(image).values()
    assert own.std() > 1e-3
    torch.testing.assert_close(found, own, atol=1e-5, rtol=1e-5)


def test_sam2_gives_its_pyramid_by_stride(tmp_path: Path) -> None:
    tiny_sam2().save_pretrained(tmp_path)
    found = HubSAMTeacher(str(tmp_path), maps=["stride4", "stride8", "stride16"])(torch.rand(1, 3, 64, 64))
    assert {name: value.shape[-1] for name, value in found.items()} == {
        "stride4": 16,
        "stride8": 8,
        "stride16": 4,
    }


def test_sam2_saved_as_its_encoder_alone_gives_the_same_maps(tmp_path: Path) -> None:
    whole = tiny_sam2()
    whole.save_pretrained(tmp_path / "whole")
    whole.vision_encoder.save_pretrained(tmp_path / "alone")
    image = torch.rand(1, 3, 64, 64)
    first, second = (HubSAMTeacher(str(tmp_path / name))(image)["stride16"] for name in ("whole", "alone"))
    assert torch.equal(first, second)


def test_medsam_is_known_by_its_name_and_stretched_instead_of_normalised(tmp_path: Path) -> None:
    folder = tmp_path / "medsam-vit-base"
    tiny_sam().save_pretrained(folder)
    transformers.SamImageProcessor().save_pretrained(
        folder
    )  # published with it, and not what it was trained with
    teacher = HubSAMTeacher(str(folder))
    prepared = teacher.prepare(0.25 + 0.5 * torch.rand(2, 3, 64, 64))
    assert (prepared.amin((1, 2, 3)) == 0).all()
    assert (prepared.amax((1, 2, 3)) == 1).all()
    assert HubSAMTeacher(str(folder), span="unit").contract.mean[0] == pytest.approx(0.485)


def test_weights_that_lack_keys_of_the_encoder_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tiny_sam().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state.pop("vision_encoder.neck.conv1.weight")
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"lack 1 keys of SamModel \(first: vision_encoder.neck.conv1.weight\)"
    ):
        HubSAMTeacher(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": 100}, "multiples of 16"),
        ({"input_size": (64, 96)}, "takes a square"),
        ({"maps": ["stride8"]}, "'stride8'.*Allowed: embedding"),
        ({"span": "minmax"}, "'minmax'.*'min_max'"),
    ],
)
def test_arguments_that_are_not_allowed_name_what_is(changes: Any, message: str, tmp_path: Path) -> None:
    tiny_sam().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        HubSAMTeacher(str(tmp_path), **changes)
