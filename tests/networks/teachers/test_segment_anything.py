"""Segment Anything's image encoder, tiny and random, in the layout of the published checkpoints."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from skimage import transform
from torch import nn

from monai_difom.networks.teachers import SegmentAnythingTeacher, Teacher, medsam_teacher
from tests.testers import TeacherTester

TINY = {"embed_dim": 16, "depth": 2, "num_heads": 2, "global_attn_indexes": [1], "img_size": 64}


def tiny_sam() -> Sam:
    """A whole SAM of 64x64 images, built as the package builds its own."""
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        **{**TINY, "global_attn_indexes": (1,)},
        patch_size=16,
        out_chans=256,
        mlp_ratio=4,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
    )
    for name, parameter in encoder.named_parameters():
        if "pos" in name:  # the package starts them at zero, where a mistake in them would not show
            nn.init.normal_(parameter, std=0.5)
    prompt = PromptEncoder(256, (4, 4), (64, 64), 16)
    transformer = TwoWayTransformer(depth=1, embedding_dim=256, num_heads=8, mlp_dim=16)
    decoder = MaskDecoder(transformer_dim=256, transformer=transformer)
    return Sam(encoder, prompt, decoder, [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]).eval()


def load(path: Path, **changes: Any) -> SegmentAnythingTeacher:
    return SegmentAnythingTeacher(**{"weights": path, "input_size": 64, "architecture": TINY, **changes})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "sam.pth"
    torch.save(tiny_sam().state_dict(), path)
    return path


class TestSegmentAnything(TeacherTester):
    other_size = {"input_size": 96}

    def save(self, folder: Path) -> None:
        torch.save(tiny_sam().state_dict(), folder / "sam.pth")

    def load(self, folder: Path, **changes: Any) -> Teacher:
        return load(folder / "sam.pth", **changes)


def test_medsam_prepares_an_image_as_its_published_script_does(checkpoint: Path) -> None:
    pixels = np.random.default_rng(0).integers(40, 200, (48, 80, 3), dtype=np.uint8)
    # documented in MedSAM's inference script: bicubic to the square, whole levels, then the image's own range
    resized = transform.resize(pixels, (64, 64), order=3, preserve_range=True, anti_aliasing=True).astype(
        np.uint8
    )
    expected = (resized - resized.min()) / np.clip(resized.max() - resized.min(), a_min=1e-8, a_max=None)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    teacher = medsam_teacher(checkpoint, 64, TINY)
    prepared = teacher.prepare(image)[0].permute(1, 2, 0).numpy()
    assert (prepared.min(), prepared.max()) == (0, 1)
    assert np.corrcoef(prepared.ravel(), expected.ravel())[0, 1] > 0.95  # noise, and another antialias filter
    square = torch.from_numpy(resized).permute(2, 0, 1)[None] / 255
    np.testing.assert_allclose(teacher.prepare(square)[0].permute(1, 2, 0), expected, atol=1e-5)
    assert (teacher.licence, teacher.source) == ("Apache-2.0", str(checkpoint))
    assert not torch.allclose(teacher(square)["embedding"], load(checkpoint)(square)["embedding"])


def test_each_image_of_a_batch_is_stretched_by_itself_and_a_flat_one_stays_finite(checkpoint: Path) -> None:
    images = torch.stack([torch.rand(3, 64, 64) * 0.1, torch.rand(3, 64, 64), torch.full((3, 64, 64), 0.5)])
    prepared = medsam_teacher(checkpoint, 64, TINY).prepare(images)
    assert prepared.amax((1, 2, 3)).tolist() == [1, 1, 0]


def test_medsam_loaded_as_plain_sam_is_warned_of(tmp_path: Path) -> None:
    torch.save(tiny_sam().state_dict(), tmp_path / "medsam_vit_b.pth")
    with pytest.warns(
        UserWarning, match=r"looks like MedSAM, which wants its own normalisation: use medsam_teacher"
    ):
        load(tmp_path / "medsam_vit_b.pth")


def test_a_missing_medsam_says_where_it_is_and_what_takes_its_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"medsam_vit_b.pth.*bowang-lab/MedSAM.*--medsam_weights"):
        medsam_teacher(tmp_path / "medsam_vit_b.pth")


def test_a_square_image_gives_what_the_package_gives_from_its_own_preprocessing(checkpoint: Path) -> None:
    image = torch.rand(2, 3, 64, 64)
    sam = tiny_sam()
    with torch.no_grad():
        expected = sam.image_encoder(sam.preprocess(image * 255))
    teacher = load(checkpoint)
    torch.testing.assert_close(teacher.prepare(image), sam.preprocess(image * 255), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(teacher(image)["embedding"], expected, atol=1e-5, rtol=1e-5)


def test_an_encoder_saved_alone_gives_the_same_features(checkpoint: Path, tmp_path: Path) -> None:
    alone = tmp_path / "encoder.pth"
    torch.save({"state_dict": tiny_sam().image_encoder.state_dict()}, alone)
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(load(alone)(image)["embedding"], load(checkpoint)(image)["embedding"])


def test_a_larger_input_gives_a_larger_grid_and_positions_in_the_same_order(checkpoint: Path) -> None:
    teacher = load(checkpoint, input_size=128)
    assert teacher(torch.rand(1, 3, 50, 80))["embedding"].shape == (1, 256, 8, 8)
    small = tiny_sam().image_encoder.pos_embed.permute(0, 3, 1, 2)
    back = nn.functional.adaptive_avg_pool2d(teacher.encoder.pos_embed.permute(0, 3, 1, 2), 4)
    both = torch.stack([small.flatten(), back.flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.95


@pytest.mark.parametrize(
    ("model_type", "file"), [("vit_b", "01ec64"), ("vit_l", "0b3195"), ("vit_h", "4b8939")]
)
def test_without_weights_the_error_names_the_published_file(model_type: str, file: str) -> None:
    with pytest.raises(ValueError, match=rf"needs weights=.*sam_{model_type}_{file}.pth"):
        SegmentAnythingTeacher(model_type)


def test_a_missing_file_is_named_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere.pth.*dl.fbaipublicfiles.com/segment_anything"):
        SegmentAnythingTeacher("vit_b", tmp_path / "nowhere.pth")


def test_a_file_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"image_encoder.x": Code()}, tmp_path / "code.pth")
    with pytest.raises(ValueError, match=r"code.pth is refused: it holds pickled Python objects"):
        load(tmp_path / "code.pth")
    assert not (tmp_path / "ran").exists()


def test_missing_and_unexpected_keys_are_named(tmp_path: Path) -> None:
    state = tiny_sam().state_dict()
    state["image_encoder.neck.9.weight"] = state.pop("image_encoder.neck.0.weight")
    torch.save(state, tmp_path / "wrong.pth")
    message = (
        r"wrong.pth .*1 missing keys \(first: neck.0.weight\); 1 unexpected keys \(first: neck.9.weight\)"
    )
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "wrong.pth")


def test_weights_of_another_size_are_refused_with_both_shapes(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=r"wrong shapes .*\(1, 4, 4, 16\) instead of \(1, 4, 4, 32\)"):
        load(checkpoint, architecture={**TINY, "embed_dim": 32})


def test_another_number_of_heads_changes_the_signature_though_no_weight_does(checkpoint: Path) -> None:
    one, two = load(checkpoint), load(checkpoint)
    two.architecture = {**two.architecture, "num_heads": 4}
    assert one.signature != two.signature


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": 100}, "multiples of 16"),
        ({"input_size": (64, 96)}, "takes a square"),
        ({"input_size": None}, "takes a square"),
        ({"model_type": "vit_g"}, "vit_b, vit_h, vit_l"),
        ({"architecture": {"heads": 2}}, "'heads'.*num_heads"),
    ],
)
def test_arguments_that_are_not_allowed_name_what_is(checkpoint: Path, changes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(checkpoint, **changes)
