"""The demo trains by the verb `train`, and ends with a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_difom.apps import demo
from monai_difom.apps.demo import FOLDERS, RECORD, begin, run_demo


def test_the_demo_ends_with_a_report_of_a_student_and_its_control(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_demo(tmp_path, seed=3, quick=True) == 0
    shown = capfd.readouterr().out
    assert "gain over the control" in shown
    assert "quick run" in shown
    student = tmp_path / "student"
    assert (student / "report.html").is_file()
    found = {
        name: json.loads((folder / "summary.json").read_text())
        for name, folder in {
            "teacher": tmp_path / "teacher",
            "taught": student,
            "alone": student / "control",
        }.items()
    }
    without = {name: summary.get("unlabelled") or 0 for name, summary in found.items()}
    assert without == {"teacher": 0, "alone": 0, "taught": demo.QUICK.unlabelled_images}
    assert found["taught"]["labelled"] == found["alone"]["labelled"]
    assert {summary["test_sets"]["synthetic"]["n"] for summary in found.values()} == {demo.QUICK.test_images}
    # that one is complete: all is done anew, as with other settings
    record = json.loads((tmp_path / RECORD).read_text())
    assert record.pop("finished")
    begin(tmp_path, record)
    assert not any((tmp_path / name).exists() for name in FOLDERS)


def test_an_interrupted_demo_of_the_same_settings_goes_on(tmp_path: Path) -> None:
    begin(tmp_path, {"seed": 0})
    (tmp_path / "teacher").mkdir()
    begin(tmp_path, {"seed": 0})
    assert (tmp_path / "teacher").is_dir()
    begin(tmp_path, {"seed": 1})
    assert not (tmp_path / "teacher").exists()


def test_nothing_that_no_demo_wrote_is_removed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match="no demo wrote"):
        begin(tmp_path, {"seed": 0})
    assert (tmp_path / "data").is_dir()


def test_ctrl_c_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "make_polyps", interrupt)
    with pytest.raises(KeyboardInterrupt, match=r"kept in .*; the same command goes on"):
        run_demo(tmp_path, quick=True)
