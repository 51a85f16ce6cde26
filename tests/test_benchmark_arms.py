"""The benchmark of task-specific distillation asks the bundle for what the bundle has, and tells its runs apart."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
from monai.bundle import ConfigParser

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("task_specific")


def options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, benchmark: ModuleType, *more: str
) -> argparse.Namespace:
    words = ["--name", "drive", "--overlay", "configs/data/drive.yaml", "--dataset_dir", str(tmp_path)]
    words += ["--teacher_weights", "file", "--labels", "4", "8", "--runs", str(tmp_path), *more]
    monkeypatch.setattr("sys.argv", ["task_specific.py", *words])
    return benchmark.parse()


def test_every_arm_is_a_command_that_the_bundle_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, benchmark: ModuleType
) -> None:
    given = options(tmp_path, monkeypatch, benchmark, "--imagenet_weights", "vit.safetensors")
    assert given.arms == list(benchmark.ARMS)
    for arm in given.arms:
        words = benchmark.command(arm, 4, 0, tmp_path, tmp_path / "out", given)
        found = {words[i][2:]: words[i + 1] for i in range(5, len(words), 2)}
        parser = ConfigParser()
        parser.read_config([str(ROOT / file) for file in ast.literal_eval(found.pop("config_file"))])
        assert set(found) <= set(parser.get())


def test_an_arm_whose_weights_are_not_there_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, benchmark: ModuleType
) -> None:
    assert "imagenet" not in options(tmp_path, monkeypatch, benchmark).arms
    with pytest.raises(SystemExit):
        options(tmp_path, monkeypatch, benchmark, "--arms", "imagenet")


def test_finished_runs_and_their_teachers_stand_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, benchmark: ModuleType
) -> None:
    given = options(tmp_path, monkeypatch, benchmark)
    for seed, dice in ((0, 0.5), (1, 0.7)):
        out = benchmark.folder_of("task_specific", 4, seed, given)
        out.mkdir(parents=True)
        (out / "stage.json").write_text(json.dumps({"finished": True, "settings": {}}))
        teacher = {"adapt": {"test_sets": {"test": {"dice": 0.9}}}}
        (out / "summary.json").write_text(
            json.dumps({"test_sets": {"test": {"dice": dice}}, "stages": teacher})
        )
    rows = benchmark.collect(given)
    lines = benchmark.table(rows, [4, 8], "dice", 2).splitlines()
    assert lines[2] == "| task_specific | 0.60 (0.50, 0.70) |  |"
    assert lines[3] == "| teacher of task_specific | 0.90 (0.90, 0.90) |  |"
