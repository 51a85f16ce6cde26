"""Benchmarks that take seconds run, and check what they claim besides speed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image

from monai_difom.data import loading_chain, make_polyps, read_structures, train_validation
from monai_difom.data import test_sets as sets_of
from monai_difom.losses import MISSING

from .layouts import make_drive

ROOT = Path(__file__).parents[1]


@pytest.mark.real_data
def test_the_evaluation_gives_the_numbers_of_the_libraries(shared_data: Path) -> None:
    words = [
        sys.executable,
        "benchmarks/evaluate.py",
        "--data",
        str(shared_data),
        "--images",
        "6",
        "--rounds",
        "1",
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
    }  # the code beside the benchmark, wherever it is installed
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["images"] == 6
    assert result["same_numbers"] is True
    assert result["speedup"] > 0


def test_a_row_of_the_speed_benchmark_says_its_figure_in_the_last_line() -> None:
    words = [sys.executable, "benchmarks/speed.py", "--quick", "--rows", "start_help", "start_wrong_path"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert 0 < result["start_help"] < 5
    assert set(result["rows"]) == {"start_help", "start_wrong_path"}


def test_an_evaluation_holds_no_image_longer_than_it_needs_it() -> None:
    words = [sys.executable, "benchmarks/memory.py", "--quick", "--rows", "evaluate"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["evaluate"]
    assert 10 < found["peak_few"] < 500  # the process's own, not that of the program that started it
    assert found["kb_per_image"] < 100


def test_every_row_of_the_speed_benchmark_is_a_function_and_has_a_line_on_the_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    speed = import_module("speed")
    page = (ROOT / "benchmarks" / "speed.md").read_text(encoding="utf-8")
    for name, row in speed.ROWS.items():
        module, function = row.function.split(":")
        assert callable(getattr(import_module(f"speed_rows.{module}"), function))
        assert f"`{name}`" in page
        assert f"`{row.key}`" in page
        assert row.met(float(row.goal.split()[1]))


def test_the_tasks_of_the_agglomeration_are_structures_that_other_tasks_lack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    specification = importlib.util.spec_from_file_location(
        "agglomeration", ROOT / "benchmarks/agglomeration.py"
    )
    assert specification is not None
    assert specification.loader is not None
    benchmark = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(benchmark)
    data = tmp_path / "data"
    make_polyps(data / "polyp", train=20, test=2, size=300)
    make_drive(data / "DRIVE")
    for n in range(6):
        for kind in ("images", "masks"):
            (data / "DSB2018_120" / kind).mkdir(parents=True, exist_ok=True)
            Image.new("L", (64, 48), 255).save(data / "DSB2018_120" / kind / f"{n}.png")
    folder = benchmark.prepare(data, tmp_path / "prepared")
    assert read_structures(folder / "all") == list(benchmark.TASKS)
    train, validation = train_validation(folder / "all")
    test = sets_of(folder / "all")["test"]
    groups = [{item["group"] for item in items} for items in (train, validation, test)]
    assert not groups[0] & groups[1]
    labelled = [item for item in train if item.get("label")]
    assert 0 < len(labelled) <= len(train) / benchmark.LABELLED + len(benchmark.TASKS)
    for items in (labelled, validation, test):
        assert {len(item["label"]) for item in items} == {1}
        assert {name for item in items for name in item["label"]} == set(benchmark.TASKS)
    assert [i["image"] for i in labelled] == [i["image"] for i in train_validation(folder / "labelled")[0]]
    chain = loading_chain(32, structures=benchmark.TASKS)
    label = chain(next(item for item in labelled if "vessel" in item["label"]))["label"]
    assert [bool((channel == MISSING).all()) for channel in label] == [True, False, True]


def test_what_to_label_next_is_compared_with_a_random_choice(tmp_path: Path) -> None:
    make_polyps(tmp_path / "data", train=12, test=2, size=40)
    words = [sys.executable, "benchmarks/label_next.py", "--dataset_dir", str(tmp_path / "data")]
    words += ["--output_dir", str(tmp_path / "out"), "--result", str(tmp_path / "result.json")]
    words += ["--encoder", "test_efficientnet", "--steps", "1", "--image_size", "32", "--views", "2"]
    words += ["--labels", "4", "6", "--members", "1", "--seeds", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result == json.loads((tmp_path / "result.json").read_text())
    assert set(result["6"]) == {"random", "next", "spread"}
    assert set(result["6"]["spread"]) == {"dice", "gain", "low", "high"}
    trained = {
        name: set(
            json.loads((tmp_path / f"out/seed0/{name}/teacher.json").read_text())["members"][0]["trained_on"]
        )
        for name in ("4", "next6", "random6", "spread6")
    }
    assert [len(keys) for keys in trained.values()] == [4, 6, 6, 6]
    assert trained["4"] < trained["next6"]
    assert trained["4"] < trained["spread6"]
    assert trained["4"] < trained["random6"]


def test_injected_faults_hold() -> None:
    words = [sys.executable, "benchmarks/faults.py", "--kills", "2", "--flips", "6"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert all(campaign["tried"] == campaign["held"] for campaign in found.values())
    assert found["bundles"]["tried"] >= 30
    assert found["inputs"]["tried"] >= 40


def test_a_call_for_some_arms_leaves_the_figures_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    keep = import_module("kept_figures").keep_figures
    file = tmp_path / "found.json"
    keep(file, {"a": {"none": {"dice": [0.1]}, "all": {"dice": [0.2]}}})
    keep(file, {"a": {"all": {"dice": [0.3]}}, "b": {}})
    assert json.loads(file.read_text()) == {"a": {"none": {"dice": [0.1]}, "all": {"dice": [0.3]}}, "b": {}}


@pytest.mark.parametrize("name", ["task_specific", "agglomeration"])
def test_the_figures_of_a_page_are_those_of_its_file(name: str) -> None:
    """Every Dice of every seed, and every gain with its interval, stands in the page as in the JSON beside it."""
    page = (ROOT / f"benchmarks/{name}.md").read_text(encoding="utf-8")
    sets = json.loads((ROOT / f"benchmarks/{name}.json").read_text(encoding="utf-8"))
    # the pages write .445 and 0.445
    digits = {word.lstrip("0") for word in re.findall(r"\d?\.\d{3}", page)}
    gains = 0
    for arms in sets.values():
        for arm, cell in arms.items():
            assert arm in page
            assert {f"{value:.3f}".lstrip("0") for value in cell["dice"]} <= digits
            if "gain" in cell:
                assert f"{cell['gain']:+.3f} ({cell['low']:+.3f} to {cell['high']:+.3f})" in page
                gains += 1
    assert gains
