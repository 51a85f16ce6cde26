"""Specialists label the images of their own task: what a folder does not say of an image teaches nothing there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.transforms import Compose
from PIL import Image

from monai_difom.data import SoftMaskError, SoftMasksByStructure, SoftMaskWriter, image_keys, open_soft_masks
from monai_difom.data.soft_masks import with_soft_masks
from monai_difom.losses import MISSING, AnnotatedLoss, SemimetricDiceCELoss
from monai_difom.transforms import MixSoftMaskd, mix_soft_mask

from .test_store import write_images

STRUCTURES = ["polyp", "vessel", "nucleus"]


def label(folder: Path, images: list[str], value: float) -> Path:
    """Soft masks of one structure: the value on the left half, 0 on the right."""
    writer = SoftMaskWriter(folder, ["foreground"], {"specialist": folder.name}, [0])
    for image, key in zip(images, image_keys([{"image": path} for path in images]), strict=True):
        width, height = Image.open(image).size
        mask = torch.zeros(1, height, width)
        mask[..., : width // 2] = value
        writer.write(key, image, mask, 0.9, 0.1, ["specialist"])
    writer.finish()
    return folder


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    return write_images(tmp_path / "images")


@pytest.fixture
def masks(tmp_path: Path, images: list[str]) -> SoftMasksByStructure:
    folders = {
        "polyp": label(tmp_path / "p", images[:2], 0.8),
        "vessel": label(tmp_path / "v", images[1:], 0.4),
    }
    found = open_soft_masks(folders, STRUCTURES)
    assert isinstance(found, SoftMasksByStructure)
    return found


def test_an_image_has_the_channels_that_its_folders_hold(
    masks: SoftMasksByStructure, images: list[str]
) -> None:
    masks.check(images, STRUCTURES)
    assert [masks.said(image) for image in images] == [
        [True, False, False],
        [True, True, False],
        [False, True, False],
    ]
    both = masks.read(images[1])
    assert both.shape[0] == 3
    torch.testing.assert_close(both.flatten(1).amax(1), torch.tensor([0.8, 0.4, 0.0]), atol=2e-3, rtol=0)
    assert masks.teachers == {"polyp: specialist": "p", "vessel: specialist": "v"}


def test_what_is_not_said_is_missing_in_the_target_and_has_no_gradient(
    masks: SoftMasksByStructure, images: list[str]
) -> None:
    chain = with_soft_masks(Compose([lambda item: {**item, "image": torch.zeros(3, 16, 16)}]), masks)
    item = MixSoftMaskd(channels=3)(chain({"image": images[0]}))
    assert set(item) == {"image", "label"}
    assert (item["label"][1:] == MISSING).all()
    assert item["label"][0].max() <= 1
    logits = torch.zeros(1, 3, 16, 16, requires_grad=True)
    AnnotatedLoss(SemimetricDiceCELoss())(logits, item["label"][None]).backward()
    assert logits.grad is not None
    assert logits.grad[0, 0].abs().sum() > 0
    assert logits.grad[0, 1:].abs().sum() == 0


def test_a_drawn_mask_stays_where_the_soft_one_says_nothing() -> None:
    drawn = torch.tensor([1.0, 1.0, MISSING, MISSING])[:, None, None].expand(4, 2, 2)
    soft = torch.full((4, 2, 2), 51, dtype=torch.uint8)  # .2
    found = mix_soft_mask(drawn, soft, 0.5, torch.tensor([True, False, True, False]))
    assert found is not None
    torch.testing.assert_close(found[:, 0, 0], torch.tensor([0.6, 1.0, 0.2, float(MISSING)]))


def test_images_in_no_folder_other_names_and_folders_of_several_structures_are_refused(
    masks: SoftMasksByStructure, images: list[str], tmp_path: Path
) -> None:
    more = write_images(tmp_path / "more", count=4)
    with pytest.raises(SoftMaskError, match=r"do not fit 1 of 4 images(.|\n)*no soft mask of any structure"):
        masks.check([*images, more[-1]])
    with pytest.raises(SoftMaskError, match="of any structure"):
        masks.read(more[-1])
    with pytest.raises(SoftMaskError, match="Did you mean 'polyp'"):
        open_soft_masks({"polyps": tmp_path / "p"}, STRUCTURES)
    with pytest.raises(SoftMaskError, match="a student of several structures"):
        open_soft_masks({"polyp": tmp_path / "p"})
    with pytest.raises(SoftMaskError, match="names no folder"):
        open_soft_masks({}, STRUCTURES)
    SoftMaskWriter(tmp_path / "two", ["a", "b"], {"t": "1"}, [0]).finish()
    with pytest.raises(SoftMaskError, match="are of 2 structures"):
        open_soft_masks({"polyp": tmp_path / "p", "vessel": tmp_path / "two"}, STRUCTURES).check(images[:1])
