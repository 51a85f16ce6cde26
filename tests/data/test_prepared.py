"""A prepared list is believed only while the files that it was made from are the same."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_difom.data import prepare_layout, train_validation
from monai_difom.data import test_sets as sets_of
from tests.odd_files import volume


def write_pairs(root: Path, count: int) -> Path:
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            array = np.random.default_rng(number).integers(0, 255, (6, 7), np.uint8)
            Image.fromarray(array if part == "images" else array // 128 * 255).save(
                root / part / f"c{number}.png"
            )
    return root


def write_volumes(root: Path, end: int, slices: tuple[int, int] = (0, 4)) -> Path:
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True, exist_ok=True)
        for number in range(4):
            mask = np.zeros((32, 32, 10), np.int16)
            mask[4:end, 4:end, slice(*slices)] = 1
            noise = np.random.default_rng(number).normal(0, 50, mask.shape).astype(np.int16)
            volume(root / part / f"v{number}.nii.gz", mask if part == "masks" else noise)
    return root


def lists(prepared: str) -> dict:
    return json.loads((Path(prepared) / "datalist.json").read_text())


def test_new_images_are_taken_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    counts = []
    for number in (8, 8, 16):
        with caplog.at_level(logging.WARNING):
            prepared = prepare_layout("pairs", write_pairs(tmp_path / "data", number), tmp_path / "out")
        counts.append(len(lists(prepared)["training"]) + len(lists(prepared)["test"]))
    assert counts == [8, 8, 16]
    assert "16 new (images/c10.png" in caplog.text
    assert "made anew" in caplog.text


def test_a_list_of_the_same_files_is_not_made_again(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "data", 6)
    file = Path(prepare_layout("pairs", root, tmp_path / "out")) / "datalist.json"
    before = file.stat().st_mtime_ns
    prepare_layout("pairs", root, tmp_path / "out")
    assert file.stat().st_mtime_ns == before


@pytest.mark.parametrize("change", ["corrected", "same size and time", "removed"])
def test_a_changed_file_makes_the_list_anew(
    change: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_volumes(tmp_path / "data", 8)
    prepare_layout("nifti_slices", root, tmp_path / "out", 0.25)
    if change == "removed":
        for part in ("images", "masks"):
            (root / part / "v3.nii.gz").unlink()
    elif change == "corrected":
        write_volumes(root, 28)
    else:
        file = root / "masks" / "v0.nii.gz"
        times = file.stat()
        content = file.read_bytes()
        file.write_bytes(content)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    with caplog.at_level(logging.WARNING):
        content = lists(prepare_layout("nifti_slices", root, tmp_path / "out", 0.25))
    assert ("gone" if change == "removed" else "changed") in caplog.text
    if change == "corrected":
        assert (np.asarray(Image.open(content["training"][0]["label"])) > 0).sum() == 24 * 24


def test_slices_that_were_lost_are_made_anew_and_other_options_are_refused(tmp_path: Path) -> None:
    root = write_volumes(tmp_path / "data", 8)
    prepared = prepare_layout("nifti_slices", root, tmp_path / "out", 0.25)
    Path(lists(prepared)["training"][0]["image"]).unlink()
    prepare_layout("nifti_slices", root, tmp_path / "out", 0.25)
    assert all(Path(item["image"]).is_file() for item in lists(prepared)["training"])
    with pytest.raises(ValueError, match="holds other data"):
        prepare_layout("nifti_slices", root, tmp_path / "out", 0.25, window=[0, 1])


def test_a_list_inside_its_own_data_set_does_not_change_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_volumes(tmp_path, 8)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            prepare_layout("nifti_slices", root, root / "run" / "data", 0.25)
    assert "made anew" not in caplog.text


def test_a_test_volume_keeps_its_empty_slices_also_where_it_is_split_off(tmp_path: Path) -> None:
    root = write_volumes(tmp_path / "data", 20, (7, 9))
    prepared = prepare_layout("nifti_slices", root, tmp_path / "out", 0.25)
    tests = sets_of(prepared)["test"]
    assert len(tests) == 10  # all of the one test volume
    assert len(lists(prepared)["training"]) == 3 * 2  # of training volumes those that show the structure
    assert len({item["group"] for item in tests}) == 1
    train, validation = train_validation(prepared, 0.3)
    assert not {item["group"] for item in [*train, *validation]} & {item["group"] for item in tests}


def test_volumes_of_one_patient_do_not_overwrite_each_other(tmp_path: Path) -> None:
    root = write_volumes(tmp_path / "data", 8, (0, 10))
    (root / "images" / "a").mkdir()
    (root / "images" / "v3.nii.gz").rename(root / "images" / "a" / "v0.nii.gz")
    images = ["v0", "v1", "v2", "a/v0"]

    def item(number: int) -> dict[str, str]:
        return {
            "image": f"images/{images[number]}.nii.gz",
            "label": f"masks/v{number}.nii.gz",
            "group": f"p{number // 2}",
        }

    content = {"training": [item(0), item(3)], "validation": [item(1)], "test": {"A": [item(2)]}}
    (root / "datalist.json").write_text(json.dumps(content))
    found = lists(prepare_layout("nifti_slices", root, tmp_path / "out"))
    assert len({entry["image"] for entry in found["training"]}) == 20
    assert len(found["validation"]) == len(found["test"]["A"]) == 10
