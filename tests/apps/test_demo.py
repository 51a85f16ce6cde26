"""The demo runs end to end, and says what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from monai_difom.apps import demo
from monai_difom.apps.demo import NAMES, QUICK, Demo, run_demo, table, verdict


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("demo")
    assert run_demo(output, seed=3, quick=True) == 0
    return output


@pytest.mark.xdist_group("demo")
def test_the_report_holds_every_promised_figure(finished: Path) -> None:
    report = json.loads((finished / "demo.json").read_text())
    assert tuple(report["rows"]) == NAMES
    for row in report["rows"].values():
        assert {"n", "dice", "hd95", "parameters", "milliseconds"} <= set(row)
        assert row["n"] == QUICK.test_images
    rows = report["rows"]
    assert report["gain"]["dice"] == pytest.approx(rows["distilled"]["dice"] - rows["undistilled"]["dice"])
    assert (
        rows["undistilled"]["parameters"] == rows["distilled"]["parameters"] < rows["teacher"]["parameters"]
    )
    assert (report["seed"], report["quick"], report["settings"]["input_size"]) == (3, True, QUICK.input_size)


@pytest.mark.xdist_group("demo")
def test_the_picture_has_a_row_an_image_and_five_columns(finished: Path) -> None:
    with Image.open(finished / "predictions.png") as picture:
        assert picture.size == (5 * 198 + 6, 60 + 6 * 198)


@pytest.mark.xdist_group("demo")
def test_only_the_distilled_student_saw_the_teacher(finished: Path) -> None:
    terms = {
        name: set(json.loads((finished / name / "summary.json").read_text())["collapse"]) for name in NAMES
    }
    assert terms == {"undistilled": set(), "teacher": set(), "distilled": set(demo.TERMS)}


@pytest.mark.xdist_group("demo")
def test_an_interrupted_demo_keeps_its_teacher(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished / "demo.json").unlink()  # as if it had been stopped in its last stage

    def refuse(*_arguments: object) -> None:
        raise AssertionError("a finished training was started anew")

    monkeypatch.setattr(Demo, "trainer", refuse)
    assert run_demo(finished, seed=3, quick=True) == 0
    assert "quick run" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="started anew"):
        run_demo(finished, seed=3, quick=True)  # that one was complete
    with pytest.raises(AssertionError, match="started anew"):
        run_demo(finished, seed=4, quick=True)


def test_ctrl_c_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_self: Demo) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Demo, "write_images", interrupt)
    with pytest.raises(KeyboardInterrupt, match=r"kept in .*; the same command goes on"):
        run_demo(tmp_path, quick=True)


def test_images_of_another_demo_are_removed(tmp_path: Path) -> None:
    other = tmp_path / "data" / "teacher" / "TrainDataset" / "image" / "synthetic_9999.png"
    other.parent.mkdir(parents=True)
    other.touch()
    Demo(tmp_path, 0, QUICK).write_images()
    assert not other.exists()
    assert len(list(other.parent.iterdir())) == QUICK.teacher_images + QUICK.validation_images


def test_the_verdict_follows_the_interval() -> None:
    rows = {name: {"dice": 0.5, "n": 3} for name in NAMES}
    openings = {(0.1, 0.05, 0.2): "better", (0.1, -0.1, 0.2): "neither", (-0.1, -0.2, -0.05): "worse"}
    for (change, low, high), word in openings.items():
        assert word in verdict(rows, {"dice": change, "low": low, "high": high})


def test_the_table_is_aligned() -> None:
    row = {"dice": 0.5, "hd95": 12.3, "parameters": 123456, "milliseconds": 4.56}
    lines = table(dict.fromkeys(NAMES, row)).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "123,456" in lines[1]
