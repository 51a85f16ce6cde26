"""What a run's figures say is said, with what to do about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monai_difom.__main__ import main
from monai_difom.apps.doctor.command import examine
from monai_difom.apps.doctor.findings import WORDS
from tests.apps.runs.folders import write_scores, write_training

IMAGES = [f"/d/t/images/{number}.png" for number in range(12)]


def write(folder: Path, shift: float = 0.0, scored: bool = True, **figures: Any) -> Path:
    """A run of one distillation term with these figures; without figures one that was trained on masks alone."""
    write_training(folder, ("low",) if figures else ())
    file = folder / "summary.json"
    summary = json.loads(file.read_text())
    for name in summary["collapse"]:
        summary["collapse"][name].update(figures)
    summary |= figures.get("summary", {})
    file.write_text(json.dumps(summary))
    if scored:
        write_scores(folder / "t.csv", IMAGES, shift)
    return folder


def kinds(*arguments: Any) -> list[str]:
    return [finding.kind for finding in examine(*arguments)]


@pytest.mark.parametrize(
    ("figures", "kind"),
    [
        ({"r2": 0.4, "r2_image": 0.2}, "learns"),
        ({"r2": 0.4}, "learns"),  # of a run before the mean image was measured
        ({"r2": 0.4, "r2_image": -0.1}, "only what is the same"),
        ({"r2": -0.4, "r2_image": -3.0}, "explains nothing"),
        ({"r2": -40.0, "distance": False}, "not measured"),
        ({"r2": 0.9, "collapsed": True}, "collapsed"),
    ],
)
def test_what_the_monitor_measured_is_put_in_words(figures: dict, kind: str, tmp_path: Path) -> None:
    found = examine(write(tmp_path / "run", **figures))
    assert {finding.kind for finding in found} == {kind, "no control"}
    own = next(finding for finding in found if finding.kind == kind)
    assert "low" in own.found
    assert own.advice or own.level == "good"


@pytest.mark.parametrize(
    ("shift", "kind", "level"),
    [(0.1, "better", "good"), (-0.1, "worse", "bad"), (0.0, "within noise", "doubt")],
)
def test_a_run_is_compared_with_its_own_control(
    shift: float, kind: str, level: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write(tmp_path / "run", shift, r2=0.4)
    write(run / "control")
    found = {finding.kind: finding.level for finding in examine(run)}
    assert found == {"learns": "good", kind: level}
    assert main(["doctor", str(run)]) == (level == "bad")
    said = " ".join(capsys.readouterr().out.split())
    assert WORDS[level] in said  # type: ignore[index]
    assert "on 12 images of t" in said


def test_a_teacher_must_know_more_than_the_student_has_without_it(tmp_path: Path) -> None:
    run, alone = write(tmp_path / "run", 0.1, r2=0.4), write(tmp_path / "alone")
    for name, shift in (("poor", -0.1), ("good", 0.2)):
        write_scores(tmp_path / name / "t.csv", IMAGES, shift)
    assert "teacher no better" in kinds(run, [alone], [tmp_path / "poor"])
    assert "teacher better" in kinds(run, [alone], [tmp_path / "good"])
    stages = {"stages": {"adapt": {"test_sets": {"t": {"dice": 0.01}}}}}
    assert "teacher no better" in kinds(write(tmp_path / "soft", 0.1, r2=0.4, summary=stages))


def test_the_worst_comes_first_and_nothing_is_left_out(tmp_path: Path) -> None:
    run = write(tmp_path / "run", -0.1, r2=-0.4)
    write(run / "control")
    levels = [finding.level for finding in examine(run)]
    assert levels == sorted(levels, key=list(WORDS).index)
    assert kinds(run) == ["explains nothing", "worse"]


def test_what_cannot_be_compared_or_is_not_finished_is_said(tmp_path: Path) -> None:
    run = write(tmp_path / "run", r2=0.4)
    other = write(tmp_path / "other", scored=False)
    write_scores(other / "t.csv", [*IMAGES[:-1], "/d/t/images/x.png"])
    assert "not compared" in kinds(run, [other])
    (run / "summary.json").unlink()
    assert "not finished" in kinds(run)
    assert "not scored" in kinds(write(tmp_path / "unscored", scored=False, r2=0.4))


def test_what_is_no_run_is_refused_and_findings_go_to_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", str(tmp_path / "nowhere")]) == 2
    assert "there is no run" in capsys.readouterr().err
    run = write(tmp_path / "[bold]run", -0.1, r2=-0.4)  # what files are called is no markup
    assert main(["doctor", str(run), "--json", str(tmp_path / "found.json")]) == 1
    assert json.loads((tmp_path / "found.json").read_text())[0]["kind"] == "explains nothing"
    assert main(["doctor", str(write(tmp_path / "plain"))]) == 0
    assert "Nothing to report" in capsys.readouterr().out


def test_a_test_image_that_was_trained_on_is_the_first_that_is_said(tmp_path: Path) -> None:
    run = write(tmp_path / "run", r2=0.4, summary={"trained_on": {"t": 3}})
    found = examine(run)
    assert (found[0].kind, found[0].level) == ("trained on", "bad")
    assert "3 images of the test set t" in found[0].found


def test_a_trial_of_a_few_steps_is_not_judged_as_a_training(tmp_path: Path) -> None:
    phases = {"phases": [{"name": "distil", "epochs": 6}], "labelled": 64}
    control = write(tmp_path / "control", 0.3)
    assert kinds(write(tmp_path / "trial", r2=-0.1, summary=phases), [control]) == ["short"]
    longer = {**phases, "unlabelled": 400}
    assert "worse" in kinds(write(tmp_path / "longer", r2=-0.1, summary=longer), [control])


def test_a_training_of_few_steps_is_said_to_be_too_short_and_is_still_compared(tmp_path: Path) -> None:
    control = write(tmp_path / "control", 0.3)
    found = kinds(write(tmp_path / "run", r2=-0.1, summary={"steps": 80}), [control])
    assert "few steps" in found
    assert "worse" in found
    assert "few steps" not in kinds(write(tmp_path / "long", summary={"steps": 2500}), [control])
