"""What to start with follows from the images and the machine, and says what nobody has measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from monai_difom.__main__ import main
from monai_difom.apps import advise
from monai_difom.apps.bundle.shipped import overlays
from monai_difom.data import make_polyps
from monai_difom.zoo import ZOO

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("labelled", "unlabelled", "gpu", "start"),
    [
        (25, 0, True, advise.FEW_LABELS),
        (1000, 400, True, advise.FEW_LABELS),
        (1000, 0, True, advise.GPU),
        (1000, 0, False, advise.CLINIC),
    ],
)
def test_where_to_start_follows_from_images_and_machine(
    labelled: int, unlabelled: int, gpu: bool, start: advise.Start
) -> None:
    assert advise.choose(labelled, unlabelled, gpu)[0] is start


def test_every_start_can_be_trained_by_its_names() -> None:
    teachers = {*overlays("teachers"), *(entry.name for entry in ZOO)}
    for start in advise.STARTS:
        assert start.student in overlays("students")
        assert start.teacher in teachers
        assert start.recipe is None or start.recipe in overlays("recipes")


def test_the_page_shows_the_table_of_the_verb_and_its_times_are_those_of_the_students() -> None:
    page = (ROOT / "docs/which.md").read_text(encoding="utf-8")
    students = (ROOT / "docs/students.md").read_text(encoding="utf-8")
    assert f"| {' | '.join(advise.COLUMNS)} |" in page
    assert advise.PRETRAINED in page
    for start in advise.STARTS:
        assert f"| {' | '.join(start.cells())} |" in page
        row = re.search(rf"^\| `{start.student}` \|(?:[^|\n]*\|){{4}} (\d+) \|", students, re.M)
        assert start.milliseconds == (int(row[1]) if row else None)


def test_the_verb_counts_the_images_and_prints_a_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_polyps(tmp_path / "data", train=6, test=2, size=32)
    assert main(["advise", str(tmp_path / "data")]) == 0
    shown = capsys.readouterr().out
    assert "6 images with masks, 0 without" in shown
    assert shown.splitlines()[-1].startswith("monai-difom train ")
    (tmp_path / "empty").mkdir()
    assert main(["advise", str(tmp_path / "data"), "--unlabelled", str(tmp_path / "empty")]) == 2
    assert "holds no images" in capsys.readouterr().err
    assert main(["advise", str(tmp_path / "empty")]) == 2
