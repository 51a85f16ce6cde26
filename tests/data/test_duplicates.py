"""Near duplicates: copies are found however they were turned or lit; equal ones are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_difom.data import check_transfer
from monai_difom.data.duplicates import distances, fingerprint, histogram
from tests.tiny import make_data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_data(tmp_path / "data", train=6, test=3)


def files(data: Path, part: str) -> list[Path]:
    return sorted((data / part).rglob("image*/*.png"))


def save(pixels: np.ndarray, path: Path) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def test_an_image_has_no_distance_to_itself_and_some_to_others(data: Path) -> None:
    prints = [fingerprint(path) for path in files(data, "TrainDataset")]
    grey, phash = distances(prints, prints)
    assert np.allclose(np.diag(grey), 0, atol=1e-9)
    assert (np.diag(phash) == 0).all()
    others = ~np.eye(len(prints), dtype=bool)
    assert grey[others].min() > 0.02
    assert phash[others].min() > 4


def test_a_turned_and_darkened_copy_is_near(data: Path, tmp_path: Path) -> None:
    test, train = files(data, "TestDataset"), files(data, "TrainDataset")
    copy = np.rot90(np.asarray(Image.open(test[1])))
    path = save((copy * 0.8).astype(np.uint8), tmp_path / "copy.png")
    report = check_transfer([path, train[0]], test, train[1:], tmp_path, progress=False)
    row = report["nearest"][0]["test"]
    assert row["nearest"] == str(test[1])
    assert row["grey"] < 0.02
    assert row["phash"] <= 6
    assert report["nearer_than_real"] == [str(path)]


def test_a_test_image_is_refused_and_named_whatever_its_file_type(data: Path, tmp_path: Path) -> None:
    test = files(data, "TestDataset")
    other = tmp_path / "same_pixels.tiff"
    Image.open(test[0]).save(other)
    with pytest.raises(ValueError, match=r"same_pixels.tiff equals the test image .*synthetic_0000.png"):
        check_transfer([files(data, "TrainDataset")[0], other], test, progress=False)
    with pytest.raises(ValueError, match="give at least one of each"):
        check_transfer([], test, progress=False)


def test_a_training_image_is_reported_only(data: Path) -> None:
    train = files(data, "TrainDataset")
    report = check_transfer(train[:2], files(data, "TestDataset"), train, progress=False)
    assert report["equal_to_train"] == [str(path) for path in train[:2]]
    assert report["to_train"]["median"] == pytest.approx(0, abs=1e-6)


def test_a_histogram_has_a_row_a_group() -> None:
    sheet = histogram({"one": [0.1, 0.2], "two": [0.0, 0.4]})
    assert sheet.size == (720, 320)
    assert histogram({"zero": [0.0]}).size == (720, 160)
