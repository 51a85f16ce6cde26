"""Bundles and overlays are found by name, from any folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_difom.apps.bundle.shipped import (
    bundle_folder,
    bundle_names,
    config_file,
    copy_bundle,
    overlay_file,
    overlays,
    run_init,
)


def test_every_overlay_is_found_by_its_full_name_and_by_its_bare_one_where_that_is_unique() -> None:
    bare = [name.rpartition("/")[2] for name in overlays()]
    for name, file in overlays().items():
        assert overlay_file(name) == file
        if bare.count(name.rpartition("/")[2]) == 1:
            assert overlay_file(name.rpartition("/")[2]) == file


def test_a_name_that_nothing_has_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="unetpp"):
        overlay_file("unetp", "students")
    with pytest.raises(ValueError, match="polyp_difom"):
        bundle_folder("polyp_difon")


def test_a_name_of_several_overlays_asks_which() -> None:
    doubled = [name.rpartition("/")[2] for name in overlays()]
    names = {name for name in doubled if doubled.count(name) > 1}
    for name in names:
        with pytest.raises(ValueError, match="several"):
            overlay_file(name)


def test_paths_into_the_project_name_the_same_files_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in bundle_names():
        assert config_file(name) == config_file(f"bundles/{name}/configs/train.yaml")
    assert config_file("configs/students/unet.yaml") == overlay_file("students/unet")
    (tmp_path / "mine.yaml").write_text("seed: 1\n")
    assert config_file("mine.yaml") == Path("mine.yaml")


def test_a_copy_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy_bundle("task_specific_kd", tmp_path)
    with pytest.raises(FileExistsError, match="is there already"):
        copy_bundle("task_specific_kd", tmp_path)
    assert run_init("task_specific_kd", tmp_path) == 2
    assert "is there already" in capsys.readouterr().err
