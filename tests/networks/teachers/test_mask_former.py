"""Mask2Former and OneFormer, tiny and random, saved as the hub serves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from monai_difom.networks.teachers import MaskFormerTeacher, Teacher
from monai_difom.networks.teachers.mask_former import mask_evidence
from tests.testers import TeacherTester


def tiny(kind: str) -> Any:
    """A tiny random model; group norm wants 32 channels."""
    torch.manual_seed(0)
    backbone = transformers.SwinConfig(
        embed_dim=4,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=2,
        image_size=64,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    shared = {"backbone_config": backbone, "encoder_layers": 1, "num_attention_heads": 2, "hidden_dim": 32}
    shared |= {"dim_feedforward": 16, "encoder_feedforward_dim": 16, "num_queries": 4, "num_labels": 3}
    if kind == "mask2former":
        config: Any = transformers.Mask2FormerConfig(
            feature_size=32, mask_feature_size=32, decoder_layers=2, **shared
        )
        model: Any = transformers.Mask2FormerForUniversalSegmentation(config)
    else:
        config = transformers.OneFormerConfig(
            conv_dim=32, mask_dim=32, decoder_layers=2, query_dec_layers=1, task_seq_len=77, **shared
        )
        model = transformers.OneFormerForUniversalSegmentation(config)
    for name, parameter in model.named_parameters():
        if "level_embed" in name or "relative_position" in name:  # they start at zero: mistakes must show
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def save(kind: str, folder: Path) -> Any:
    """Save the model, its image processor and (OneFormer) its tokenizer."""
    model = tiny(kind)
    model.save_pretrained(folder)
    if kind == "oneformer":
        letters = sorted(set("the task is panoptic semantic instance") - {" "})
        pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
        vocabulary = {piece: number for number, piece in enumerate(pieces)}
        transformers.CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    return model


class MaskFormerTester(TeacherTester):
    kind = ""
    other_size = {"input_size": 128}
    other_maps = {"maps": ["stride16"]}

    def save(self, folder: Path) -> None:
        save(self.kind, folder)

    def load(self, folder: Path, **changes: Any) -> Teacher:
        # the instance norms of so small a model spread a change over its coarser maps; those are compared below
        return MaskFormerTeacher(str(folder), **{"maps": ["stride4"], **changes})


class TestMask2Former(MaskFormerTester):
    kind = "mask2former"


class TestOneFormer(MaskFormerTester):
    kind = "oneformer"


def processor(kind: str) -> Any:
    """The family's own image processor, with its size left alone: the image is a multiple of 32 already."""
    if kind == "mask2former":
        return transformers.Mask2FormerImageProcessor(do_resize=False, num_labels=3)
    return transformers.OneFormerImageProcessor(
        do_resize=False, num_text=0, num_labels=3, class_info_file=None
    )


@pytest.mark.parametrize("kind", ["mask2former", "oneformer"])
def test_the_image_is_prepared_and_read_as_the_librarys_own_processor_and_model_do(
    kind: str, tmp_path: Path
) -> None:
    model = save(kind, tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    own = processor(kind)
    expected = (
        own(pixels, ["panoptic"], return_tensors="pt")
        if kind == "oneformer"
        else own(pixels, return_tensors="pt")
    )["pixel_values"]
    teacher = MaskFormerTeacher(
        str(tmp_path), maps=["stride4", "stride8", "stride16", "stride32", "evidence"]
    )
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(teacher.prepare(image), expected, atol=1e-5, rtol=1e-5)
    more = {}
    if kind == "oneformer":
        own_processor = transformers.OneFormerProcessor(
            own, transformers.AutoTokenizer.from_pretrained(tmp_path)
        )
        more = {"task_inputs": own_processor(pixels, ["panoptic"], return_tensors="pt")["task_inputs"]}
    with torch.no_grad():
        output = model(expected, output_hidden_states=True, **more)
    found = teacher(image)
    levels = {value.shape[-1]: value for value in output.pixel_decoder_hidden_states}
    for name in ("stride8", "stride16", "stride32"):
        assert found[name].std() > 1e-2
        torch.testing.assert_close(found[name], levels[found[name].shape[-1]], atol=1e-4, rtol=1e-4)
    evidence = mask_evidence(output.masks_queries_logits, output.class_queries_logits)
    torch.testing.assert_close(found["evidence"], evidence, atol=1e-4, rtol=1e-4)
    assert found["evidence"].shape == (1, 1, 16, 24)


@pytest.mark.parametrize("kind", ["mask2former", "oneformer"])
def test_the_pixel_decoders_maps_are_the_same_with_and_without_the_evidence(
    kind: str, tmp_path: Path
) -> None:
    save(kind, tmp_path)
    image = torch.rand(2, 3, 64, 64)
    with_evidence = MaskFormerTeacher(str(tmp_path), maps=["stride8", "evidence"])(image)
    torch.testing.assert_close(with_evidence["stride8"], MaskFormerTeacher(str(tmp_path))(image)["stride8"])
    assert 0 <= with_evidence["evidence"].min() <= with_evidence["evidence"].max() <= 1


def test_evidence_is_high_only_where_a_query_has_both_a_mask_and_an_object() -> None:
    masks = torch.full((1, 2, 2, 2), -20.0)
    masks[0, 0, 0, 0] = 20  # an object here
    masks[0, 1, 1, 1] = 20  # a mask, but of nothing
    classes = torch.tensor([[[20.0, 0, 0], [0, 0, 20.0]]])
    torch.testing.assert_close(
        mask_evidence(masks, classes)[0, 0], torch.tensor([[1.0, 0], [0, 0]]), atol=1e-6, rtol=0
    )


def test_another_task_changes_the_signature_of_oneformers_evidence(tmp_path: Path) -> None:
    save("oneformer", tmp_path)
    tasks = [
        MaskFormerTeacher(str(tmp_path), ["evidence"], task=task).signature
        for task in ("panoptic", "semantic")
    ]
    assert tasks[0] != tasks[1]


def test_evidence_without_a_tokenizer_says_what_the_folder_lacks(tmp_path: Path) -> None:
    tiny("oneformer").save_pretrained(tmp_path)
    with pytest.raises((OSError, ValueError), match="tokenizer"):
        MaskFormerTeacher(str(tmp_path), ["evidence"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": ["stride2"]}, "Allowed: evidence, stride16"),
        ({"input_size": 100}, "multiples of 32"),
        ({"maps": ["evidence"], "task": "polyps"}, "'polyps'.*Allowed: instance, panoptic"),
    ],
)
def test_arguments_that_are_not_allowed_name_what_is(changes: Any, message: str, tmp_path: Path) -> None:
    save("oneformer", tmp_path)
    with pytest.raises(ValueError, match=message):
        MaskFormerTeacher(str(tmp_path), **changes)
