"""Numbers as names are frames of CVC-ClinicDB only where the set shows it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from PIL import Image

from monai_difom.data import image_group, train_validation, training_pairs


def write(folder: Path, names: list[str], size: tuple[int, int] = (384, 288)) -> Path:
    """Images of one size (width, height) and their masks."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for name in names:
            Image.new("1", size).save(folder / part / f"{name}.png")
    return folder


NUMBERS = [str(n) for n in range(1, 41)]
KVASIR = [f"cju{n}" for n in range(5)]


@pytest.mark.parametrize(
    ("folder", "names", "size", "frames"),
    [
        ("TrainDataset", [*NUMBERS, *KVASIR], (384, 288), True),  # PraNet's training set
        ("TrainDB/CVC-ClinicDB", NUMBERS, (384, 288), True),
        ("CVC_ClinicDB_train", NUMBERS, (99, 99), True),
        ("TrainDataset", NUMBERS, (384, 288), False),  # one's own, by chance of that size
        ("TrainDataset", [*NUMBERS, *KVASIR], (1225, 966), False),  # ETIS
        ("TrainDataset", NUMBERS, (88, 72), False),
        ("TrainDB", NUMBERS, (574, 500), False),  # CVC-ColonDB
        ("mine", [*NUMBERS, *KVASIR], (384, 288), True),
    ],
)
def test_numbers_are_frames_only_with_evidence(
    folder: str,
    names: list[str],
    size: tuple[int, int],
    frames: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = write(tmp_path / folder, names, size)
    with caplog.at_level(logging.INFO):
        items = training_pairs(tmp_path if folder.startswith("Train") and "/" not in folder else place)
    groups = {Path(item["image"]).stem: item["group"] for item in items}
    assert (groups["1"] == groups["25"] == "CVC-ClinicDB/sequence-01") == frames
    assert groups.get("cju1", "cju1") == "cju1"
    assert ("taken for frames of CVC-ClinicDB, 2 sequences" in caplog.text) == frames


def test_own_numbers_are_split_as_single_images(tmp_path: Path) -> None:
    write(tmp_path / "TrainDataset", NUMBERS, (88, 72))
    train, validation = train_validation(tmp_path)
    assert (len(train), len(validation)) == (36, 4)
    train, validation = train_validation(write(tmp_path / "few", NUMBERS[:20], (88, 72)))
    assert (len(train), len(validation)) == (18, 2)


def test_a_path_alone_tells_frames_by_the_name_of_their_set() -> None:
    assert image_group("x/TestDataset/CVC-ClinicDB/images/26.png") == "CVC-ClinicDB/sequence-02"
    assert image_group("x/TestDataset/ETIS/images/26.png") == "26"
    assert image_group("x/TrainDataset/image/26.png") == "26"
