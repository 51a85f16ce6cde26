"""Images without masks as training data."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from monai_difom.data import (
    ViewDataset,
    image_chain,
    strong_augmentation,
    training_augmentation,
    training_pairs,
    transfer_items,
    transfer_of_labelled,
    unlabelled_images,
)
from monai_difom.data.transfer import load_pictures
from tests.tiny import make_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def test_a_folder_of_images_becomes_items_without_labels(data: Path) -> None:
    items = unlabelled_images(data / "TrainDataset" / "image", limit=5)
    assert len(items) == 5
    assert all("label" not in item for item in items)
    dataset = ViewDataset(items, image_chain(32), training_augmentation(), progress=False)
    item = dataset[0, 0]
    assert set(item) >= {"image", "teacher_image"}
    assert item["image"].shape == item["teacher_image"].shape == (3, 32, 32)
    assert 0 <= item["teacher_image"].min() <= item["teacher_image"].max() <= 1


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no images"):
        unlabelled_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder of images"):
        unlabelled_images(tmp_path / "absent")
    with pytest.raises(ValueError, match="limit is 0"):
        unlabelled_images(tmp_path, 0)


def test_strong_augmentation_makes_different_images_of_one(data: Path) -> None:
    items = transfer_of_labelled(training_pairs(data)[:2], 6)
    assert len(items) == 6
    assert not any("label" in item for item in items)
    dataset = ViewDataset(items, image_chain(32), strong_augmentation(), progress=False)
    drawn = [dataset[0, i]["teacher_image"] for i in (0, 2, 4)]
    assert all(not torch.allclose(a, b, atol=0.05) for a, b in ((drawn[0], drawn[1]), (drawn[1], drawn[2])))
    assert torch.equal(dataset[0, 2]["teacher_image"], drawn[1])
    assert all(0 <= x.min() <= x.max() <= 1 for x in drawn)
    assert type(drawn[0]) is torch.Tensor
    with pytest.raises(ValueError, match="a transfer set of 0 images"):
        transfer_of_labelled(items, 0)


def test_the_teacher_sees_the_geometry_of_the_student(data: Path) -> None:
    dataset = ViewDataset(
        transfer_of_labelled(training_pairs(data), 3),
        image_chain(32),
        strong_augmentation(mean=[0] * 3, std=[1] * 3),
        progress=False,
    )
    item = dataset[1, 2]
    assert torch.equal(item["image"], item["teacher_image"])


def test_pictures_are_squashed_to_a_square(data: Path) -> None:
    found = load_pictures([item["image"] for item in training_pairs(data)[:2]], 16)
    assert found.shape == (2, 3, 16, 16)
    assert found.dtype == torch.uint8
    with pytest.raises(ValueError, match="no images"):
        load_pictures([], 8)


def test_a_transfer_set_is_had_by_the_name_of_its_kind(data: Path, tmp_path: Path) -> None:
    labelled = training_pairs(data)
    folder = data / "TrainDataset" / "image"
    assert [len(transfer_items(kind, labelled, folder, 5)) for kind in ("augmentation", "folder")] == [5, 5]
    assert transfer_items("diffusion", labelled, folder, 5) == transfer_items("folder", labelled, folder, 5)
    assert len(transfer_items("folder", labelled, folder, 1000)) == len(labelled)
    with pytest.raises(ValueError, match="holds 12 of 1000 images: run the id synthesize to its end"):
        transfer_items("diffusion", labelled, folder, 1000)
    with pytest.raises(FileNotFoundError, match="run the id synthesize first"):
        transfer_items("diffusion", labelled, tmp_path / "absent")
    with pytest.raises(ValueError, match="give transfer_dir"):
        transfer_items("folder", labelled)
    with pytest.raises(ValueError, match="unknown transfer 'folde'"):
        transfer_items("folde", labelled)
