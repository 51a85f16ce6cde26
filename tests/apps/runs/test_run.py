"""A run's folder is read as far as it is there, and what is missing is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_difom.apps.runs.run import Run, RunError, merge, read_run
from tests.apps.runs.folders import ALL, OLD, write_scores, write_training

FRAMES = [f"/data/TestDataset/CVC-ClinicDB/images/{i}.png" for i in (1, 2, 30, 31)]


def test_scores_facts_and_sequences_are_read(tmp_path: Path) -> None:
    write_scores(tmp_path / "CVC-ClinicDB.csv", FRAMES)
    table = read_run(tmp_path).tables["CVC-ClinicDB"]
    assert set(table.columns) == set(ALL)
    assert table.scores[0] == "dice"
    assert "height" not in table.scores
    assert len(set(table.groups)) == 2  # frames 1 and 2 are of one sequence, 30 and 31 of the next
    assert table.only(["30.png"]).columns["dice"].shape == (1, 1)


def test_a_run_says_which_epoch_it_kept_validated_or_not(tmp_path: Path) -> None:
    for best, said in (
        ({"best": 0.81234, "best_epoch": 7}, "7, validation Dice 0.812"),
        ({"best": None, "best_epoch": 7}, "7, not validated"),
        ({"best": None, "best_epoch": None}, ""),
        (None, ""),
    ):
        assert Run(tmp_path, {}, {"best": best}).epoch_kept == said


def test_a_run_of_an_older_version_is_read_with_what_it_has(tmp_path: Path) -> None:
    write_scores(tmp_path / "x.csv", FRAMES, columns=OLD)
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    write_training(tmp_path)
    run = read_run(tmp_path)
    assert set(run.tables) == {"x"}
    assert run.tables["x"].scores == ["dice", "iou", "hd95"]
    assert any("run.json" in item for item in run.missing)


def test_the_curves_of_an_interrupted_run_come_from_its_checkpoint(tmp_path: Path) -> None:
    write_training(tmp_path / "full", ("low",))
    history = json.loads((tmp_path / "full" / "history.json").read_text())[:3]
    (tmp_path / "cut" / "models").mkdir(parents=True)
    torch.save({"handlers": {"phase_log": {"epochs": history}}}, tmp_path / "cut" / "models" / "last.pt")
    run = read_run(tmp_path / "cut")
    assert len(run.history) == 3
    assert run.terms == ["low"]
    assert any("up to epoch 3" in item for item in run.missing)
    assert any("interrupted" in item for item in run.missing)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run at"):
        read_run(tmp_path / "nowhere")
    (tmp_path / "photo.png").touch()
    with pytest.raises(RunError, match=r"is no run.*photo\.png"):
        read_run(tmp_path)
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(RunError, match=r"summary\.json is damaged"):
        read_run(tmp_path)


def test_runs_on_the_same_images_merge_wherever_the_data_lie(tmp_path: Path) -> None:
    write_scores(tmp_path / "a" / "x.csv", FRAMES)
    write_scores(tmp_path / "b" / "x.csv", [f.replace("/data/", "/elsewhere/") for f in FRAMES[::-1]])
    write_scores(tmp_path / "c" / "x.csv", FRAMES[:3])
    a, b, c = (read_run(tmp_path / name).tables["x"] for name in "abc")
    merged = merge([a, b], ["a", "b"])
    assert merged.columns["dice"].shape == (2, 4)
    np.testing.assert_array_equal(merged.columns["dice"][1], b.columns["dice"][0])
    with pytest.raises(RunError, match=r"Only in a \(1\): 31\.png"):
        merge([a, c], ["a", "c"])


def test_runs_that_differ_in_their_seed_alone_have_one_recipe(tmp_path: Path) -> None:
    for name, terms in (("x_0", ("low",)), ("x_1", ("low",)), ("y_0", ("low",)), ("x_2", ())):
        write_training(tmp_path / name, terms)
    recipes = [read_run(tmp_path / name).recipe() for name in ("x_0", "x_1", "y_0", "x_2")]
    assert recipes[0] == recipes[1]
    assert len(set(recipes)) == 3
    for name, seed in (("x_0", 0), ("y_0", 7)):
        (tmp_path / name / "config.yaml").write_text(
            f"# head\nseed: {seed}\nimage_size: 64\noutput_dir: {name}\n"
        )
    assert read_run(tmp_path / "x_0").recipe() == read_run(tmp_path / "y_0").recipe()


def test_rows_of_several_structures_are_told_apart_and_keep_their_group(tmp_path: Path) -> None:
    lines = [
        "structure,group,image,dice",
        "air,p1,/d/a.png,0.5",
        "bolus,p1,/d/a.png,0.25",
        "air,p2,/d/b.png,1.0",
    ]
    (tmp_path / "swallows.csv").write_text("\n".join(lines) + "\n")
    table = read_run(tmp_path).tables["swallows"]
    assert table.images == ("a.png: air", "a.png: bolus", "b.png: air")
    assert table.groups == ("p1", "p1", "p2")
    assert table.paths == ("/d/a.png", "/d/a.png", "/d/b.png")
    assert table.columns["dice"].tolist() == [[0.5, 0.25, 1.0]]
