"""Maps of any program are soft masks where they fit their images, and are refused where they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_difom.data import MapFolder, SoftMaskError, SoftMasks, open_soft_masks

from .test_store import fill, probability, write_images


def write_maps(folder: Path, count: int = 3, suffix: str = "png", value: int | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        shares = probability(n)[0].numpy()
        levels = (
            (shares * 255).round().astype(np.uint8)
            if value is None
            else np.full(shares.shape, value, np.uint8)
        )
        Image.fromarray(shares if suffix == "tif" else levels).save(folder / f"{n}.{suffix}")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_maps_are_matched_by_stem_whatever_their_type(suffix: str, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    write_maps(tmp_path / "maps", suffix=suffix)
    maps = open_soft_masks(tmp_path / "maps")
    maps.check(images)
    for n, image in enumerate(images):
        np.testing.assert_allclose(maps.read(image), probability(n), atol=2.1e-3)
    assert 0 < maps.certainty(images[0]) < 1


def test_structures_lie_in_a_folder_each(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    write_maps(tmp_path / "maps" / "left")
    write_maps(tmp_path / "maps" / "right", value=0)
    maps = open_soft_masks(tmp_path / "maps", ["left", "right"])
    maps.check(images, ["left", "right"])
    assert maps.read(images[1]).shape == (2, 11, 14)
    assert maps.read(images[1])[1].max() == 0
    with pytest.raises(SoftMaskError, match=r"no folder of maps at .*middle"):
        MapFolder(tmp_path / "maps", ["left", "middle"]).check(images)


def test_a_folder_is_read_as_what_it_is(tmp_path: Path) -> None:
    fill(tmp_path / "soft", write_images(tmp_path / "images")).finish()
    assert isinstance(open_soft_masks(tmp_path / "soft"), SoftMasks)
    assert isinstance(open_soft_masks(tmp_path / "to_be_filled"), SoftMasks)


def test_maps_that_do_not_fit_are_all_named(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    write_maps(tmp_path / "maps", 2)
    Image.new("L", (14, 20)).save(tmp_path / "maps" / "1.png")
    with pytest.raises(SoftMaskError, match=r"2 of 3 images(.|\n)*20 x 14(.|\n)*no map of(.|\n)*2.png"):
        open_soft_masks(tmp_path / "maps").check(images)
    with pytest.raises(SoftMaskError, match="holds no maps"):
        MapFolder(tmp_path).check(images)
    write_maps(tmp_path / "maps", 2, "tif")
    with pytest.raises(SoftMaskError, match="maps of one stem"):
        open_soft_masks(tmp_path / "maps").check(images)
    write_maps(tmp_path / "good")
    with pytest.raises(SoftMaskError, match="one stem, so one map"):
        open_soft_masks(tmp_path / "good").check(images + write_images(tmp_path / "more"))


@pytest.mark.parametrize("value", [0, 255, 127])
def test_a_folder_of_constant_maps_is_refused(value: int, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    write_maps(tmp_path / "maps", value=value)
    with pytest.raises(SoftMaskError, match=r"all 3 soft masks .* are constant"):
        open_soft_masks(tmp_path / "maps").check(images)
