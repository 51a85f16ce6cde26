"""Two runs are compared on the same images, or refused with what differs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_difom.__main__ import main
from tests.apps.runs.folders import OLD, write_scores

FRAMES = [f"/data/TestDataset/CVC-ClinicDB/images/{i}.png" for i in range(1, 613, 12)]


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, str]:
    for name, shift in (("a", 0.0), ("b", 0.1), ("b2", 0.12)):
        write_scores(tmp_path / name / "CVC-ClinicDB.csv", FRAMES, shift, OLD)
    return {name: str(tmp_path / name) for name in ("a", "b", "b2")}


def test_a_constant_gain_is_found_and_written(
    runs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out.json"
    assert main(["compare", runs["a"], runs["b"], "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert "B - A +0.100 (+0.100 to +0.100): B is better" in out
    assert f"B better on {len(FRAMES)} of {len(FRAMES)} images" in out
    assert "sign test over 29 sequences" in out
    found = json.loads(file.read_text())["test_sets"]["CVC-ClinicDB"]["dice"]
    assert found["difference"]["mean"] == pytest.approx(0.1)
    assert (found["verdict"], found["largest_losses"]) == ("better", [])


def test_the_losers_are_named_from_the_worst(
    runs: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", runs["b"], runs["a"], "--metric", "all"]) == 0
    out = capsys.readouterr().out
    assert "B is worse" in out
    assert "largest losses: " in out
    assert "HD95" in out


def test_several_seeds_stand_on_a_side(runs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--a", runs["a"], "--b", runs["b"], runs["b2"]]) == 0
    assert "B - A +0.110 (+0.100 to +0.120)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "1 runs were given; two are compared"),
        (["a", "b", "--a", "a"], "not both ways"),
        (["a", "b", "--metric", "dise"], "Did you mean 'dice'"),
        (["a", "nowhere"], "there is no run at"),
        (["a", "short"], r"Only in"),
        (["a", "other"], "the test sets differ"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(
    words: list[str], message: str, runs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scores(tmp_path / "short" / "CVC-ClinicDB.csv", FRAMES[1:], columns=OLD)
    write_scores(tmp_path / "other" / "Kvasir.csv", FRAMES, columns=OLD)
    given = [word if word.startswith("--") or word in ("dise",) else str(tmp_path / word) for word in words]
    assert main(["compare", *given]) == 2
    assert message in capsys.readouterr().err
