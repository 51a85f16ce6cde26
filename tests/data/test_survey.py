"""Before anything is trained, a data set says what it holds; what cannot be right is refused, with files and reason."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from monai_difom.data import check_pairs, describe_data, training_pairs
from tests import odd_files as odd

M = odd.shape()
Writer = Callable[[Path], object]


def pairs(
    folder: Path, write_mask: Writer | None = None, count: int = 4, write_image: Writer | None = None
) -> list[dict]:
    """Pairs of different pictures and a mask each, as items."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image, mask = (folder / part / f"c{number}.png" for part in ("images", "masks"))
        picture = odd.picture()
        picture[0, 0] = number
        (write_image or (lambda p, a=picture: odd.save(p, a)))(image)
        (write_mask or (lambda p: odd.save(p, M * np.uint8(255))))(mask)
    return training_pairs(folder)


def said(training: list[dict], tests: dict | None = None, **options: object) -> str:
    found = describe_data(training[1:], training[:1], tests or {}, progress=False, **options)
    return "\n".join(f"{name}: {line}" for name, lines in found.items() for line in lines)


def test_the_first_lines_say_what_a_data_set_holds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    items = pairs(tmp_path / "a")
    tests = {
        "new": pairs(tmp_path / "b", lambda p: odd.save(p, M), 2, lambda p: odd.save(p, odd.picture()[::-1]))
    }
    with caplog.at_level(logging.INFO):
        text = said(items, tests)
    share = f"foreground {100 * M.mean():.2g} % to {100 * M.mean():.2g} %, median {100 * M.mean():.2g} %"
    assert f"training: 3 images; RGB 8 bits x 3; masks 0/255 x 3; {share}; 0 empty and 0 full masks." in text
    assert "test set new: 2 images; RGB 8 bits x 2; masks 0/1 x 2;" in text
    assert "Data, training: 3 images" in caplog.text


def test_orientation_bits_transparency_and_pages_are_said(tmp_path: Path) -> None:
    kinds = iter(range(9))

    def write(path: Path) -> None:
        kind, picture = next(kinds), odd.picture()
        picture[0, 0] = kind
        if kind == 1:
            odd.save(path, odd.stored_for(picture, 6), exif=odd.exif(6))
        elif kind == 2:
            odd.save(path, picture[..., 0] * np.uint16(257))
        elif kind == 3:
            odd.save(path, np.dstack([picture, M * np.uint8(255)]))
        elif kind == 4:
            odd.pages(path, picture, picture[::2, ::2], format="MPO")
        else:
            odd.save(path, picture)

    text = said(pairs(tmp_path, count=5, write_image=write))
    assert "RGB 8 bits x 2, I;16 16 bits x 1, RGBA 8 bits x 1" in text
    assert "turned upright by EXIF orientation 6 x 1" in text
    assert "1 with previews behind the first page" in text
    assert "1 with transparency, which is dropped" in text


def test_inverted_and_full_masks_and_a_mixture_of_conventions_are_said(tmp_path: Path) -> None:
    assert "the masks look inverted" in said(pairs(tmp_path / "a", lambda p: odd.save(p, ~M * np.uint8(255))))
    masks = iter([M * 255, M * 255, M, np.ones_like(M) * 255, ~M * 255, M * 255])
    text = said(pairs(tmp_path / "b", lambda p: odd.save(p, next(masks).astype(np.uint8)), 6))
    assert "1 mask(s) are foreground everywhere: c3.png" in text
    assert "1 mask(s) look inverted" in text
    assert "1 mask(s) hold 0/1 where others hold 0/255; each is read as what it is: c2.png" in text


@pytest.mark.parametrize(("mask", "message"), [(M & False, "are empty"), (M | True, "are full")])
def test_masks_of_which_all_are_empty_or_full_are_refused(
    mask: np.ndarray, message: str, tmp_path: Path
) -> None:
    items = pairs(tmp_path, lambda p: odd.save(p, mask * np.uint8(255)))
    with pytest.raises(ValueError, match=f"all 4 masks of the training and validation images {message}"):
        said(items)


def test_a_test_set_of_empty_masks_is_said(tmp_path: Path) -> None:
    tests = {
        "none": pairs(
            tmp_path / "b", lambda p: odd.save(p, M & False), 2, lambda p: odd.save(p, odd.picture()[::-1])
        )
    }
    assert "test set none: all masks are empty" in said(pairs(tmp_path / "a"), tests)


def test_files_that_are_not_understood_are_named_at_once(tmp_path: Path) -> None:
    items = pairs(tmp_path)
    odd.save(tmp_path / "masks/c0.png", (M + np.eye(10, 14)).astype(np.uint8))
    odd.save(tmp_path / "masks/c1.png", M[:5] * np.uint8(255))
    odd.save(tmp_path / "images/c2.png", odd.picture()[..., 0].astype(np.uint16))
    (tmp_path / "images/c3.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"4 problem\(s\) in 4 images") as caught:
        said(items)
    for part in (
        "c0.png: the mask is not binary",
        "the mask is 5x14 but its image",
        "look like 8 bits",
        "c3.png: cannot be",
    ):
        assert part in str(caught.value)


def test_a_mask_that_was_drawn_on_the_unturned_pixels_is_told_apart(tmp_path: Path) -> None:
    items = pairs(
        tmp_path,
        lambda p: odd.save(p, odd.stored_for(M * np.uint8(255), 6)),
        write_image=lambda p: odd.save(p, odd.stored_for(odd.picture(), 6), exif=odd.exif(6)),
    )
    with pytest.raises(
        ValueError, match="turned upright by its EXIF orientation 6, and its mask was drawn by a program"
    ):
        check_pairs(items, progress=False)


def test_a_damaged_image_is_found_where_every_file_is_opened(tmp_path: Path) -> None:
    items = pairs(
        tmp_path,
        write_image=lambda p: odd.save(
            p, np.random.default_rng(len(p.name)).integers(0, 255, (10, 14, 3), np.uint8)
        ),
    )
    whole = (tmp_path / "images/c1.png").read_bytes()
    (tmp_path / "images/c1.png").write_bytes(whole[:200])
    with pytest.raises(ValueError, match=r"c1.png: cannot be read"):
        said(items, check=True)


def test_masks_of_structures_are_refused_where_one_mask_is_wanted(tmp_path: Path) -> None:
    items = pairs(tmp_path)
    for item in items:
        item["label"] = {"bone": item["label"]}
    with pytest.raises(
        ValueError, match=r"has masks of structures \(bone\), but one mask per image is wanted"
    ):
        said(items)
    assert "masks structures x 3" in said(items, structures=["bone"])


def test_classes_are_values_and_images_without_masks_are_counted(tmp_path: Path) -> None:
    items = pairs(tmp_path, lambda p: odd.save(p, (M + np.eye(10, 14)).astype(np.uint8)))
    text = said([*items, {"image": items[0]["image"]}], classes=2)
    assert "1 without a mask" in text
    with pytest.raises(ValueError, match="holds class 2, but 1 classes are expected"):
        said(items, classes=1)


@pytest.mark.parametrize("deep", [False, True])
def test_a_test_image_among_the_trained_ones_is_said_and_with_check_refused_whatever_its_name(
    deep: bool, tmp_path: Path
) -> None:
    items = pairs(tmp_path / "a")
    tests = pairs(tmp_path / "b", count=2, write_image=lambda p: odd.save(p, odd.picture()[::-1]))
    again = tmp_path / "b" / "images" / ("c1.png" if not deep else "c1.bmp")
    Image.open(items[2]["image"]).save(
        again
    )  # saved anew, the pixels are the same, the bytes of a BMP are not
    tests[1]["image"] = str(again)
    if deep:
        with pytest.raises(ValueError, match="of the test set new are also in the training set") as caught:
            said(items, {"new": tests}, check=True)
        text = str(caught.value)
    else:
        text = said(items, {"new": tests})
    assert "1 image(s) of the test set new are also in the training set" in text
    assert again.name in text
    assert "c2.png" in text


def test_black_slices_are_no_shared_images(tmp_path: Path) -> None:
    black = lambda p: odd.save(p, np.zeros((10, 14), np.uint8))  # noqa: E731
    items = pairs(tmp_path / "a", write_image=black)
    said(items, {"new": pairs(tmp_path / "b", write_image=black)}, check=True)


def test_volumes_say_their_storage_order(tmp_path: Path) -> None:
    items = []
    for number, affine in enumerate((np.eye(4), np.diag([-1.0, -1, 1, 1]))):
        values = np.random.default_rng(number).integers(0, 99, (5, 6, 7)).astype(np.int16)
        paths = {key: tmp_path / f"{key}{number}.nii.gz" for key in ("image", "label")}
        odd.volume(paths["image"], values, affine)
        odd.volume(paths["label"], (values > 50).astype(np.uint8), affine)
        items.append({key: str(path) for key, path in paths.items()})
    text = "\n".join(describe_data(items, [], {}, progress=False)["training"])
    assert "NIfTI int16 x 2; orientations LPS x 1, RAS x 1; masks 0/1 x 2" in text
    nibabel.save(nibabel.Nifti1Image(np.full((5, 6, 7), 0.5), np.eye(4)), items[0]["label"])
    with pytest.raises(ValueError, match=r"0\.5, between whole numbers"):
        describe_data(items, [], {}, progress=False)
