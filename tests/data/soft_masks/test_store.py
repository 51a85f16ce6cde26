"""Soft masks come back as they were written, and are refused where they are not those of the image."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
import tracemalloc
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from monai_difom.data import SoftMaskError, SoftMasks, SoftMaskWriter, image_keys
from monai_difom.data.feature_store import image_name
from monai_difom.data.soft_masks.store import read_mask_file

TEACHERS = {"a": "1" * 16, "b": "2" * 16}


def write_images(folder: Path, count: int = 3) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(str(folder)))
    paths = []
    for n in range(count):
        path = folder / f"{n}.png"
        Image.fromarray(rng.integers(0, 255, (10 + n, 14, 3), dtype=np.uint8)).save(path)
        paths.append(str(path))
    return paths


def probability(n: int, channels: int = 1) -> torch.Tensor:
    return torch.rand((channels, 10 + n, 14), generator=torch.Generator().manual_seed(n))


def fill(
    folder: Path, images: list[str], structures: tuple[str, ...] = ("polyp",), **options: str
) -> SoftMaskWriter:
    writer = SoftMaskWriter(folder, structures, TEACHERS, [0, 1], **options)  # type: ignore[arg-type]
    for n, key in enumerate(image_keys([{"image": path} for path in images])):
        if key in writer.missing([key]):
            writer.write(
                key, image_name({"image": images[n]}), probability(n, len(structures)), 0.9, 0.1, ["a"]
            )
    return writer


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
@pytest.mark.parametrize("structures", [("spleen",), ("left", "right")])
def test_masks_of_volumes_come_back_on_their_grid(
    dtype: str, structures: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "volume.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((5, 7, 3), np.int16), np.diag([1, 2, 3, 1])), file)
    (key,) = image_keys([{"image": str(file)}])
    written = torch.rand(len(structures), 5, 7, 3)
    writer = SoftMaskWriter(tmp_path / "soft", structures, TEACHERS, [0], dtype)
    writer.write(key, "volume", written, 0.9, 0.1, ["a"], affine=np.diag([1, 2, 3, 1]))
    masks = writer.finish()
    found = masks.read(file, (5, 7, 3))
    torch.testing.assert_close(found, written, atol=1 / 255, rtol=0)
    assert writer.missing([key]) == []
    with pytest.raises(SoftMaskError, match=r"is 5 x 7 x 3 \(voxels\), but its image .* is 5 x 7 x 4"):
        masks.read(file, (5, 7, 4))


def test_a_packed_volume_that_unpacks_to_more_than_its_size_is_not_unpacked(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(50_000_000))
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "x.nii.gz").write_bytes(bomb)
    entry = {"file": "masks/x.nii.gz", "size": [5, 7, 3], "crc": zlib.crc32(bomb)}
    tracemalloc.start()
    with pytest.raises(SoftMaskError, match="cannot be read"):
        read_mask_file(tmp_path, entry, "uint8", 1)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
@pytest.mark.parametrize("structures", [("polyp",), ("left", "right", "both")])
def test_masks_come_back_at_the_images_own_size(
    dtype: str, structures: tuple[str, ...], tmp_path: Path
) -> None:
    images = write_images(tmp_path / "images")
    masks = fill(tmp_path / "soft", images, structures, dtype=dtype).finish()
    masks.check(images, structures, TEACHERS)
    assert masks.verify() == {}
    moved = shutil.copy(images[2], tmp_path / "elsewhere.png")
    for n, image in enumerate([*images[:2], moved]):
        found = pickle.loads(pickle.dumps(masks)).read(image, (10 + n, 14))
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, probability(n, len(structures)), atol=2.1e-3, rtol=0)
    assert masks.entry(images[0])["teachers"] == ["a"]
    assert masks.certainty(images[0]) == 0.9


def test_what_a_killed_writer_left_is_read_and_not_written_again(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    first = fill(tmp_path / "soft", images[:2])
    with open(tmp_path / "soft" / "soft_masks.0.jsonl", "a") as stream:
        stream.write('["torn", {"na')
    keys = image_keys([{"image": path} for path in images])
    again = SoftMaskWriter(tmp_path / "soft", ["polyp"], TEACHERS, [0, 1], rank=1)
    assert again.missing(keys) == [keys[2]]
    fill(tmp_path / "soft", images[2:])  # the same journal, after the torn line
    assert SoftMasks(tmp_path / "soft").entries.keys() == set(keys)
    again.finish()
    assert not list((tmp_path / "soft").glob("*.jsonl"))
    assert first.missing(keys) == []


def test_a_damaged_file_is_refused_and_written_again(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    masks = fill(tmp_path / "soft", images).finish()
    file = tmp_path / "soft" / masks.entry(images[1])["file"]
    Image.new("L", (14, 11)).save(file)
    with pytest.raises(SoftMaskError, match="not the file that was written"):
        masks.read(images[1])
    assert list(masks.verify()) == [image_name({"image": images[1]})]
    fill(tmp_path / "soft", images)
    assert SoftMasks(tmp_path / "soft").verify() == {}


def test_masks_of_something_else_are_refused_with_what_differs(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    masks = fill(tmp_path / "soft", images).finish()
    with pytest.raises(SoftMaskError, match=r"2 of 5 images:\s.*other/0.png has no soft mask"):
        masks.check(images + write_images(tmp_path / "other", 2))
    with pytest.raises(SoftMaskError, match="are of polyp; wanted is vessel"):
        masks.check(images, ["vessel"])
    with pytest.raises(SoftMaskError, match=r"teachers\.b: 22222"):
        masks.check(images, teachers={**TEACHERS, "b": "3" * 16})
    with pytest.raises(SoftMaskError, match=r"10 x 14.*20 x 14"):
        masks.read(images[0], (20, 14))
    Image.new("RGB", (14, 10)).save(images[0])
    with pytest.raises(SoftMaskError, match="has changed since"):
        masks.read(images[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"teachers": {"a": TEACHERS["a"], "b": "changed"}},
            "teachers.b: 2222222222222222 in the folder, changed here",
        ),
        ({"structures": ["x"]}, "structures"),
        ({"views": [0]}, "views"),
        ({"dtype": "float16"}, "dtype"),
    ],
)
def test_a_folder_is_not_filled_with_masks_of_another_kind(
    change: dict, message: str, tmp_path: Path
) -> None:
    options = {"structures": ["polyp"], "teachers": TEACHERS, "views": [0, 1]}
    SoftMaskWriter(tmp_path, **options)  # type: ignore[arg-type]
    with pytest.raises(SoftMaskError, match=message):
        SoftMaskWriter(tmp_path, **{**options, **change})


def test_a_folder_of_constant_masks_is_refused_and_a_single_empty_one_is_not(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 2)
    keys = image_keys([{"image": path} for path in images])
    writer = SoftMaskWriter(tmp_path / "soft", ["polyp"], TEACHERS, [0])
    writer.write(keys[0], "0", torch.zeros(1, 10, 14), 1.0, 0.0, ["a"])
    with pytest.raises(SoftMaskError, match=r"constant \(1 of them empty\)"):
        writer.finish().check(images[:1])
    writer.write(keys[1], "1", probability(1), 1.0, 0.0, ["a"])
    writer.finish().check(images)


@pytest.mark.parametrize(
    "bad", [torch.full((1, 4, 4), 1.1), torch.full((1, 4, 4), float("nan")), torch.zeros(2, 4, 4)]
)
def test_what_is_no_probability_is_not_written(bad: torch.Tensor, tmp_path: Path) -> None:
    writer = SoftMaskWriter(tmp_path, ["polyp"], TEACHERS, [0])
    with pytest.raises(SoftMaskError, match="allowed is"):
        writer.write("k", "image", bad, 1.0, 0.0, ["a"])


@pytest.mark.parametrize("content", ["{", "[]", '{"kind": "other", "format": 1}', json.dumps({"format": 9})])
def test_an_index_is_understood_or_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "soft_masks.json").write_text(content)
    with pytest.raises(SoftMaskError, match="anew in another folder"):
        _ = SoftMasks(tmp_path).index


def test_without_soft_masks_the_message_says_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(SoftMaskError, match="python -m monai_difom autolabel"):
        SoftMasks(tmp_path / "nothing").check([])
