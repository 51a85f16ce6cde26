"""Images without masks: which they are, and that no image that is held out is among them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from monai_difom.data import (
    check_unlabelled,
    test_sets,
    train_validation,
    unlabelled_images,
    unlabelled_items,
    unlabelled_volumes,
    volume_sets,
)
from tests.tiny import make_data
from tests.volumes import make_volumes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def names(items: list[dict]) -> list[str]:
    return [Path(item["image"]).name for item in items]


def test_the_rest_is_what_the_limit_leaves_of_the_training_images_without_their_masks(data: Path) -> None:
    whole, validation = train_validation(data, 0.25)
    labelled, _ = train_validation(data, 0.25, limit=3)
    rest = unlabelled_items("rest", data, 0.25, limit=3)
    assert not any("label" in item for item in rest)
    assert names(labelled) + names(rest) == names(whole)
    assert not set(names(rest)) & set(names(validation))
    assert unlabelled_items("rest", data, 0.25) == []
    assert unlabelled_items(None, data) == []


def test_a_folder_gives_what_is_not_labelled_already_each_image_once(data: Path, tmp_path: Path) -> None:
    labelled, _ = train_validation(data, 0.25, limit=3)
    for item in labelled:
        shutil.copyfile(item["image"], tmp_path / f"copy_of_{Path(item['image']).name}")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "new.png")
    shutil.copyfile(tmp_path / "new.png", tmp_path / "newer.png")
    assert names(unlabelled_items(tmp_path, data, 0.25, limit=3)) == ["new.png"]
    both = unlabelled_items(["rest", tmp_path], data, 0.25, limit=3)
    assert names(both) == [*names(unlabelled_items("rest", data, 0.25, limit=3)), "new.png"]
    (tmp_path / "new.png").unlink()
    (tmp_path / "newer.png").unlink()
    with pytest.raises(ValueError, match="all 3 images without masks are labelled"):
        unlabelled_items(tmp_path, data, 0.25, limit=3)
    with pytest.raises(FileNotFoundError, match="no folder of images"):
        unlabelled_items(tmp_path / "absent", data)


def jpeg(image: Image.Image, file: Path) -> None:
    image.save(file.with_suffix(".jpg"), quality=60)


COPIES: dict[str, Callable[[Image.Image, Path], None]] = {
    "under another name": lambda image, file: image.save(file),
    "as a JPEG": jpeg,
    "resized": lambda image, file: image.resize((100, 100)).save(file),
    "mirrored": lambda image, file: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(file),
    "turned": lambda image, file: image.transpose(Image.Transpose.ROTATE_90).save(file),
    "brightened": lambda image, file: ImageEnhance.Brightness(image).enhance(1.05).save(file),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_of_a_held_out_image_is_found_by_what_it_shows(data: Path, tmp_path: Path, kind: str) -> None:
    tests = test_sets(data)
    name, items = next(iter(tests.items()))
    shutil.copyfile(train_validation(data)[0][0]["image"], tmp_path / "other.png")
    with Image.open(items[1]["image"]) as image:
        COPIES[kind](image.convert("RGB"), tmp_path / "innocent.png")
    message = rf"1 of 2 images .*innocent\.\w+ (nearly )?equals {items[1]['image']} \({name}\).*Remove them"
    with pytest.raises(ValueError, match=message):
        check_unlabelled(unlabelled_images(tmp_path), tests, progress=False)


def test_different_images_pass_and_their_distance_is_told(data: Path) -> None:
    train, validation = train_validation(data, 0.25)
    found = check_unlabelled(train, {**test_sets(data), "validation": validation}, progress=False)
    assert found["nearest"] > 0.01
    assert (found["images"], found["held_out"]) == (len(train), len(validation) + 4)
    assert check_unlabelled([], test_sets(data))["nearest"] is None


def test_neighbouring_frames_of_real_videos_are_no_copies(shared_data: Path) -> None:
    # what is nearest in the data at hand: frames of one sequence, one for training and one for the test
    train = [i for i in unlabelled_images(shared_data / "polyp/TrainDataset/image") if i["group"].isdigit()]
    test = unlabelled_images(shared_data / "polyp/TestDataset/CVC-ClinicDB/images")
    held = {int(item["group"]) for item in test}
    near = [item for item in train if int(item["group"]) + 1 in held or int(item["group"]) - 1 in held]
    assert 4.5e-4 < check_unlabelled(near, {"CVC-ClinicDB": test}, progress=False)["nearest"] < 0.01


def test_volumes_without_masks_are_never_those_that_are_tested_or_validated(tmp_path: Path) -> None:
    data = make_volumes(tmp_path / "data", 8)
    train, validation, tests = volume_sets(data, limit=2)
    rest = unlabelled_volumes("rest", data, limit=2)
    held_out = names([*validation, *tests["test"]])
    assert len(rest) == 8 - 2 - len(held_out)
    assert not any("label" in item for item in rest)
    assert not set(names(rest)) & {*names(train), *held_out}
    assert names(unlabelled_volumes(data / "images", data, limit=2))
    assert unlabelled_volumes(None, data) == []


def test_a_held_out_volume_is_found_by_its_values_in_any_storage_order(tmp_path: Path) -> None:
    data = make_volumes(tmp_path / "data", 4)
    _, _, tests = volume_sets(data)
    (tested,) = tests["test"]
    volume = nibabel.load(tested["image"])
    turned = volume.as_reoriented(np.array([[1, -1], [0, 1], [2, -1]]))
    (tmp_path / "more").mkdir()
    nibabel.save(turned, tmp_path / "more" / "other_name.nii")
    items = unlabelled_volumes(tmp_path / "more", data)
    with pytest.raises(ValueError, match=r"1 of 1 images without masks are held out.*other_name\.nii equals"):
        check_unlabelled(items, tests, progress=False)
    train = [{"image": item["image"]} for item in volume_sets(data)[0]]
    assert check_unlabelled(train, tests, progress=False)["nearest"] is None
