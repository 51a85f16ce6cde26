"""No file is passed over in silence: links are followed, and what is not taken is named with the reason."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_difom.apps.predict.sources import find_sources
from monai_difom.data import read_structures, structure_names, training_pairs, unlabelled_images
from monai_difom.data import test_sets as sets_of
from monai_difom.data.folder_files import files_below, files_by_stem, walk


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(len(str(path))).integers(0, 255, (8, 9), np.uint8)).save(path)
    return path


def data_set(folder: Path, names: str = "ab") -> Path:
    for part in ("images", "masks"):
        for name in names:
            path = save(folder / part / f"{name}.png")
            if part == "masks":
                Image.fromarray(np.eye(8, 9).astype(np.uint8) * 255).save(path)
    return folder


def test_what_is_in_a_folder_and_not_taken_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "b.WEBP", "c.gif", "d.jfif", "e.JPEG"):
        save(tmp_path / name)
    for name in ("notes.txt", "photo.heic", ".hidden.png", ".DS_Store", "Thumbs.db"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    (tmp_path / "lost.png").symlink_to(tmp_path / "nowhere.png")
    with caplog.at_level(logging.WARNING):
        assert sorted(files_by_stem(tmp_path)) == ["a", "b", "c", "d", "e"]
        files_by_stem(tmp_path)
    (record,) = caplog.records
    for part in (
        *(
            "5 not taken",
            ".hidden.png (hidden)",
            "notes.txt (no picture of an allowed type (.txt))",
            "photo.heic (no",
        ),
        *("more (a folder)", "lost.png (a link that leads nowhere)"),
    ):
        assert part in record.getMessage()


@pytest.mark.parametrize("what", ["images", "masks", "TrainDataset"])
def test_folders_that_are_links_are_followed(what: str, tmp_path: Path) -> None:
    data_set(tmp_path / "real" / "TrainDataset")
    root = tmp_path / "linked"
    if what == "TrainDataset":
        root.mkdir()
        (root / what).symlink_to(tmp_path / "real" / what)
    else:
        (root / "TrainDataset").mkdir(parents=True)
        for part in ("images", "masks"):
            (root / "TrainDataset" / part).symlink_to(tmp_path / "real" / "TrainDataset" / part)
    assert len(training_pairs(root)) == 2


def test_links_below_a_folder_are_followed_and_circles_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "real" / "a.png")
    save(tmp_path / "in" / "b.png")
    (tmp_path / "in" / "more").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "round").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "a.txt").touch()
    with caplog.at_level(logging.WARNING):
        assert [source.name for source in find_sources(tmp_path / "in")] == ["b", "more/a"]
    assert "a.txt (of no known kind (.txt))" in caplog.text
    assert [Path(item["image"]).name for item in unlabelled_images(tmp_path / "in")] == ["b.png", "a.png"]
    assert len(list(walk(tmp_path / "in"))) == 3


def test_what_is_left_out_on_purpose_is_not_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "out" / "b.txt.png")
    (tmp_path / "out" / "areas.csv").touch()
    with caplog.at_level(logging.WARNING):
        assert files_below(tmp_path, lambda p: p.suffix == ".png", tmp_path / "out") == [tmp_path / "a.png"]
    assert not caplog.records


@pytest.mark.parametrize("stray", ["@eaDir", "__MACOSX", "backup", ".thumbnails", "empty"])
def test_a_stray_folder_in_masks_is_no_structure(
    stray: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data_set(tmp_path)
    (tmp_path / "masks" / stray).mkdir()
    if stray != "empty":
        save(tmp_path / "masks" / stray / "a.png")
    with caplog.at_level(logging.WARNING):
        items = training_pairs(tmp_path)
        assert [Path(item["label"]).parent.name for item in items] == ["masks", "masks"]
    assert structure_names(tmp_path) == ["foreground"]
    assert f"{stray} (" in caplog.text


def test_folders_of_structures_beside_a_stray_file_are_structures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data_set(tmp_path)
    for name in "ab":
        for structure in ("bone", "air"):
            save(tmp_path / "masks" / structure / f"{name}.png")
        (tmp_path / "masks" / f"{name}.png").unlink()
    save(tmp_path / "masks" / "legend.png")
    save(tmp_path / "masks" / "@eaDir" / "a.png")
    with caplog.at_level(logging.WARNING):
        assert sorted(training_pairs(tmp_path)[0]["label"]) == ["air", "bone"]
    assert read_structures(tmp_path) == ["air", "bone"]
    assert "legend.png (beside folders of structures)" in caplog.text


def test_masks_both_beside_and_in_folders_are_refused(tmp_path: Path) -> None:
    data_set(tmp_path, "abc")
    (tmp_path / "masks" / "c.png").unlink()
    save(tmp_path / "masks" / "bone" / "c.png")
    with pytest.raises(
        ValueError, match=r"masks of 2 of 3 images, and the folder\(s\) bone with masks too: which of both"
    ):
        training_pairs(tmp_path)
    (tmp_path / "structures.json").write_text(json.dumps(["bone"]))
    assert training_pairs(tmp_path)[2]["label"] == {"bone": str(tmp_path / "masks" / "bone" / "c.png")}


def test_a_folder_of_the_system_is_no_test_set_and_a_second_layout_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for place in ("TrainDataset", "TrainDB", "TestDataset/A", "TestDB/B"):
        data_set(tmp_path / place)
    (tmp_path / "TestDataset" / "__MACOSX").mkdir()
    (tmp_path / "TestDataset" / "README.txt").touch()
    with caplog.at_level(logging.WARNING):
        assert list(sets_of(tmp_path)) == ["A"]
        training_pairs(tmp_path)
    for part in (
        "__MACOSX (no folder of a test set)",
        "README.txt",
        "TestDB (beside TestDataset)",
        "TrainDB (beside",
    ):
        assert part in caplog.text


def test_channels_of_nnu_net_and_plain_names_of_one_volume_are_refused(tmp_path: Path) -> None:
    from tests.odd_files import volume

    for folder, names in (("imagesTr", ("a", "a_0000")), ("labelsTr", ("a",))):
        (tmp_path / folder).mkdir()
        for name in names:
            volume(tmp_path / folder / f"{name}.nii.gz", np.zeros((3, 3, 3), np.int16))
    with pytest.raises(ValueError, match="a_0000 and the same name"):
        training_pairs(tmp_path)
