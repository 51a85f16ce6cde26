"""A transfer set made by diffusion, from images to the report, interrupted on the way."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_difom.apps import generate_images, synthesize, train_diffusion
from monai_difom.data import test_sets, training_pairs
from tests.engines.test_diffusion import TINY
from tests.tiny import make_data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"), train=6, test=3)


def run(data: Path, folder: Path, steps: int = 4, count: int = 5) -> dict:
    arguments = {"count": count, "steps": steps, "settings": TINY, "sampling_steps": 3, "batch_size": 2}
    return synthesize(
        training_pairs(data), test_sets(data), folder, sample_every=2, progress=False, **arguments
    )


def pixels(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted((folder / "images").glob("*.png"))}


def test_a_set_is_trained_drawn_and_compared(data: Path, tmp_path: Path) -> None:
    report = run(data, tmp_path)
    assert [file.name for file in sorted((tmp_path / "samples").iterdir())] == ["000002.png", "000004.png"]
    assert len(pixels(tmp_path)) == report["images"] == 5
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["complete"], manifest["step"], len(manifest["images"])) == (True, 4, 5)
    assert all((tmp_path / row["image"]).is_file() for row in manifest["images"])
    saved = json.loads((tmp_path / "duplicates.json").read_text())
    assert {"to_test", "to_train", "real_to_test", "nearer_than_real"} <= set(saved)
    assert len(saved["nearest"]) == 5
    assert Image.open(tmp_path / "duplicates.png").size[0] > 100


def test_an_interrupted_set_ends_as_one_that_was_not(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path / "whole")
    images = [item["image"] for item in training_pairs(data)]
    train_diffusion(images, tmp_path / "cut", 2, TINY, sample_every=2, progress=False)
    run(data, tmp_path / "cut")
    expected = pixels(tmp_path / "whole")
    assert pixels(tmp_path / "cut") == expected
    (tmp_path / "cut" / "images" / "synthetic_00003.png").unlink()
    run(data, tmp_path / "cut")
    assert pixels(tmp_path / "cut") == expected


def test_images_of_another_model_are_not_mixed_in(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path)
    with pytest.raises(
        ValueError, match=r"holds images of another model or other settings: .*step 4 \(now 6\)"
    ):
        run(data, tmp_path, steps=6)
    diffusion = train_diffusion([], tmp_path, 4, TINY, progress=False)
    with pytest.raises(ValueError, match="count is 0"):
        generate_images(diffusion, tmp_path / "b", 0)


def test_a_drawn_image_that_is_a_test_image_stops_the_run(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path)
    drawn = np.asarray(Image.open(tmp_path / "images" / "synthetic_00001.png"))
    copy = make_data(tmp_path / "copy", train=6, test=3)
    test = test_sets(copy)["synthetic"][0]["image"]
    Image.fromarray(drawn).save(test)
    with pytest.raises(
        ValueError,
        match=r"1 transfer image\(s\) are test images: .*synthetic_00001.png equals the test image",
    ):
        run(copy, tmp_path)
