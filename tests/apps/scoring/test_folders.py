"""Folders of maps from any program are scored as published tables are, or refused with the names."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_difom.__main__ import main
from monai_difom.apps import evaluate_folders
from monai_difom.metrics import COLUMNS, map_scores, mean_scores

KEYS = (
    *("n", "dice", "iou", "precision", "recall", "mean_dice_256", "mean_iou_256", "mae", "weighted_f"),
    *("s_measure", "e_measure_max", "e_measure_mean", "hd95", "nsd", "empty_masks", "undefined_hd95"),
)
# of the same maps, by another program: n, Dice, IoU, meanDice 256, meanIoU 256, MAE
PUBLISHED = {
    ("PraNet_official", "Kvasir"): (100, 0.8993, 0.8427, 0.8944, 0.8362, 0.0303),
    ("PraNet_official", "CVC-ClinicDB"): (62, 0.9053, 0.8576, 0.8990, 0.8491, 0.0093),
    ("PraNet_rerun", "Kvasir"): (100, 0.8625, 0.8057, 0.8535, 0.7930, 0.0437),
    ("PraNet_rerun", "CVC-ClinicDB"): (62, 0.8749, 0.8231, 0.8663, 0.8100, 0.0139),
    ("ISBI2023", "Kvasir"): (100, 0.9175, 0.8691, 0.9129, 0.8630, 0.0247),
    ("ISBI2023", "CVC-ClinicDB"): (62, 0.9280, 0.8795, 0.9230, 0.8731, 0.0078),
}


def picture(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three squares, soft maps of them, with a mask of each kind of name and value."""
    rng = np.random.default_rng(0)
    for i, high in enumerate((1, 255, 128)):
        mask = np.zeros((30, 40), np.uint8)
        mask[5 + i : 20, 8 : 30 - 2 * i] = high
        picture(tmp_path / "masks" / f"{i}.{'tif' if i else 'png'}", mask)
        levels = np.clip(200.0 * (np.roll(mask, i) > 0) + rng.integers(0, 50, mask.shape), 0, 255)
        picture(tmp_path / "maps" / f"{i}.png", levels.astype(np.uint8))
    return tmp_path / "maps", tmp_path / "masks"


def run(folders: tuple[Path, Path], *more: str) -> int:
    return main(["evaluate", "--predictions", str(folders[0]), "--masks", str(folders[1]), *more])


@pytest.mark.real_data
@pytest.mark.parametrize(("model", "name"), PUBLISHED)
def test_published_maps_get_their_published_scores(
    model: str, name: str, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = (
        shared_data / "prediction_maps" / model / name,
        shared_data / "polyp" / "TestDataset" / name / "masks",
    )
    assert run(folders) == 0
    out = capsys.readouterr().out
    shown = dict(line.rsplit(maxsplit=1) for line in out.splitlines() if not line.startswith(" "))
    titles = ("images", "Dice", "IoU", "meanDice 256", "meanIoU 256", "MAE")
    assert tuple(float(shown[title]) for title in titles) == PUBLISHED[model, name]
    if (model, name) == ("PraNet_official", "CVC-ClinicDB"):
        # the row of PraNet's paper
        assert [round(float(shown[k]), 3) for k in ("weighted F", "S-measure", "max E")] == [
            0.896,
            0.936,
            0.979,
        ]


def test_the_files_hold_what_is_printed(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / "out" / name for name in ("scores.json", "scores.csv")]
    assert run(folders, "--json", str(files[0]), "--csv", str(files[1])) == 0
    found = json.loads(files[0].read_text())
    assert tuple(key for key in found if key in KEYS) == KEYS
    with open(files[1], newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == COLUMNS
    assert [Path(row["image"]).name for row in rows] == ["0.png", "1.tif", "2.tif"]
    for key in ("dice", "mae", "s_measure", "hd95"):
        assert found[key] == pytest.approx(np.mean([float(row[key]) for row in rows]))
    out = capsys.readouterr().out
    assert f"{found['weighted_f']:.4f}" in out
    assert f"{found['hd95']:.2f}" in out


@pytest.mark.parametrize("workers", [1, 3])
def test_the_folder_scores_are_those_of_its_images(folders: tuple[Path, Path], workers: int) -> None:
    result = evaluate_folders(*folders, threshold=0.3, spacing=(0.5, 2), tolerance=1, workers=workers)
    rows = []
    for file in sorted(folders[0].iterdir()):
        mask = np.asarray(Image.open(next(folders[1].glob(f"{file.stem}.*")))) > 0
        rows.append(map_scores(np.asarray(Image.open(file)), mask, 0.3, (0.5, 2), 1))
    assert result.means == mean_scores(rows)


def test_missing_and_extra_files_are_listed(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (folders[0] / "1.png").rename(folders[0] / "other.png")
    assert run(folders) == 2
    err = capsys.readouterr().err
    assert "1 of 3 masks" in err
    assert "1.tif" in err
    assert "other.png" in err
    (folders[1] / "1.tif").unlink()
    assert run(folders) == 0
    assert "no mask, left out: other.png" in capsys.readouterr().out


def test_another_size_is_refused_unless_resize_says_so(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with Image.open(folders[0] / "1.png") as image:
        image.resize((20, 15)).save(folders[0] / "1.png")
    assert run(folders) == 2
    err = capsys.readouterr().err
    assert "1.png: the map is 15x20 but its mask is 30x40" in err
    assert "--resize" in err
    assert run(folders, "--resize") == 0


def test_every_file_that_cannot_be_scored_is_named_at_once(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    ramp = np.tile(np.arange(40, dtype=np.uint8), (30, 1))
    picture(folders[0] / "0.png", np.stack([ramp, ramp, 255 - ramp], 2))
    picture(folders[1] / "1.tif", ramp)
    (folders[0] / "2.png").write_bytes(b"")
    assert run(folders) == 2
    err = capsys.readouterr().err
    assert "3 of 3 images cannot be scored" in err
    for words in (
        "0.png: a colour picture",
        "1.tif: the mask is not binary: 40 values",
        "2.png: cannot be read",
    ):
        assert words in err


def test_unusual_maps_are_scored_and_named(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = evaluate_folders(*folders)
    levels = np.asarray(Image.open(folders[0] / "0.png"))
    picture(folders[0] / "0.png", levels.astype(np.uint16) * np.uint16(257))
    grey = np.asarray(Image.open(folders[0] / "1.png"))
    picture(folders[0] / "1.png", np.stack([grey] * 3, 2))
    assert evaluate_folders(*folders).means == before.means
    picture(folders[0] / "2.png", np.zeros((30, 40), np.uint8))
    assert run(folders, "--json", str(tmp_path / "a.json")) == 0
    remarks = json.loads((tmp_path / "a.json").read_text())["remarks"]
    assert remarks == {"16 bits": ["0.png"], "colour, equal channels": ["1.png"], "constant": ["2.png"]}
    out = capsys.readouterr().out
    assert "Note, 1 map(s), constant: 2.png" in out
    assert "HD95 is the image's diagonal, one side being empty: 2.tif" in out


def test_maps_of_0_and_1_are_not_taken_for_black_ones(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for file in folders[0].iterdir():
        picture(file, (np.asarray(Image.open(file)) > 99).astype(np.uint8))
    assert run(folders) == 2
    assert "look like masks of 0 and 1" in capsys.readouterr().err
    for file in folders[0].iterdir():
        picture(file, np.kron(np.asarray(Image.open(file)), np.ones((2, 2), np.uint8)))
    assert run(folders, "--resize") == 2
    assert "look like masks of 0 and 1" in capsys.readouterr().err


def test_false_positives_in_empty_masks_are_named(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    picture(folders[1] / "0.png", np.zeros((30, 40), np.uint8))
    assert run(folders) == 0
    assert "Found something in an empty mask (Dice 0): 0.png" in capsys.readouterr().out


def test_structures_are_labels_or_subfolders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth, found = np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.uint8)
    truth[4:14, 4:14], truth[18:28, 20:36] = 1, 2
    found[4:14, 6:16], found[18:28, 20:36] = 1, 2
    picture(tmp_path / "labels" / "a.png", found)
    picture(tmp_path / "truth" / "a.png", truth)
    for name, label in (("disc", 1), ("cup", 2)):
        picture(tmp_path / "labels" / name / "a.png", np.uint8(255) * (found == label))
        picture(tmp_path / "truth" / name / "a.png", np.uint8(255) * (truth == label))
    folders = (tmp_path / "labels", tmp_path / "truth")
    out = [tmp_path / "labels.json", tmp_path / "folders.json"]
    rows = tmp_path / "labels.csv"
    assert run(folders, "--structures", "disc=1", "cup=2", "--json", str(out[0]), "--csv", str(rows)) == 0
    assert run(folders, "--structures", "disc", "cup", "--json", str(out[1])) == 0
    first, second = (json.loads(file.read_text()) for file in out)
    assert first["structures"] == second["structures"]
    assert first["structures"]["disc"]["dice"] == pytest.approx(0.8)
    assert first["structures"]["cup"]["dice"] == 1
    assert first["dice"] == pytest.approx(0.9)
    assert [line.split(",")[0] for line in rows.read_text().splitlines()] == ["structure", "disc", "cup"]
    assert "mean" in capsys.readouterr().out
    for wrong, message in ((["disc=1", "cup"], "for all of them"), (["cup=2", "cup=1"], "twice")):
        assert run(folders, "--structures", *wrong) == 2
        assert message in capsys.readouterr().err


def test_labels_are_resized_without_new_labels(tmp_path: Path) -> None:
    truth = np.zeros((20, 20), np.uint8)
    truth[4:16, 4:16] = 3
    picture(tmp_path / "maps" / "a.png", truth[::2, ::2])
    picture(tmp_path / "masks" / "a.png", truth)
    result = evaluate_folders(tmp_path / "maps", tmp_path / "masks", resize=True, structures=["square=3"])
    assert result.structures["square"]["dice"] == 1


def test_a_folder_that_is_not_there_or_empty_is_named(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run((tmp_path / "none", folders[1])) == 2
    assert "there is no folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run((folders[0], tmp_path / "empty")) == 2
    assert "holds no pictures" in capsys.readouterr().err
    # what `predict` writes: the masks are one folder further down
    assert run((folders[0].parent, folders[1])) == 2
    assert f"There are some in {folders[0]}" in capsys.readouterr().err


def test_a_spacing_that_does_not_fit_the_files_is_refused(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(folders, "--spacing", "1", "2", "3") == 2
    err = capsys.readouterr().err
    assert "per axis" in err
    assert len(err.splitlines()) == 1


def test_a_threshold_that_is_no_share_is_refused(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(folders, "--threshold", "128")
    assert stopped.value.code == 2
    assert "'128' was given; allowed is a number from 0 to 1" in capsys.readouterr().err
