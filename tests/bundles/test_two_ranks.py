"""Two processes of `configs/multi_gpu.yaml` train a bundle like one process on the joined batch, and resume exactly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from monai_difom.data import make_polyps
from monai_difom.utils import load_state

from .two_ranks import FILES, ROOT, workflow

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("two_ranks")
    make_polyps(folder / "data", train=15, test=2, size=48)
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", pretrained=False, features_only=True)
    save_file(network.state_dict(), str(folder / "teacher.safetensors"))
    return {
        "dataset_dir": str(folder / "data"),
        "teacher_weights": str(folder / "teacher.safetensors"),
        "teachers#imagenet#name": "test_efficientnet",
        "image_size": 32,
        "terms#0#tap": "stride8",
        "teachers#imagenet#input_size": 64,
        "targets#fit_images": 7,
        "epochs": [1, 1, 1],
        "val_fraction": 0.2,
        "limit": 6,
        "unlabelled": "rest",
        "ema": 0.9,
        "batch_size": 2,
        "device": "cpu",
        "progress": False,
        "report": False,
    }


@pytest.fixture(scope="module")
def together(options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("together")
    (folder / "options.json").write_text(json.dumps(options))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    run = subprocess.run(
        [*command, "-m", "tests.bundles.two_ranks", str(folder)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def alone(options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    flow = workflow(FILES, {**options, "batch_size": 4}, folder)
    flow.initialize()
    flow.run()
    return folder


def test_two_processes_have_the_loss_curve_of_one_on_the_joined_batch(together: Path, alone: Path) -> None:
    found, expected = (
        json.loads((folder / "history.json").read_text()) for folder in (together / "whole", alone)
    )
    assert [entry["phase"] for entry in found] == ["align", "distil", "refine"]
    for one, other in zip(found, expected, strict=True):
        assert set(one["terms"]) == set(other["terms"])
        assert one["terms"] == pytest.approx(other["terms"], rel=2e-3, abs=1e-4)
        assert one["weights"] == pytest.approx(other["weights"])
        # every process scores its own validation images, and all of them count
        assert one["validation"] == pytest.approx(other["validation"], abs=2e-3)


def test_all_processes_fit_the_targets_of_one(together: Path, alone: Path) -> None:
    first, second = (torch.load(together / f"rank{rank}.pt")["targets"] for rank in range(2))
    expected = load_state(alone / "models" / "last.pt")["targets"]
    assert int(first["fitted"]) == 7
    for key in expected:
        assert torch.equal(first[key], second[key]), key
        # rotations among directions of equal variance are as good as undetermined
        if key.startswith("standardizers") and not key.endswith("matrix"):
            torch.testing.assert_close(first[key], expected[key], rtol=1e-4, atol=1e-5)


def test_no_image_comes_twice_in_an_epoch_and_all_processes_get_equally_many(together: Path) -> None:
    first, second = (torch.load(together / f"rank{rank}.pt")["seen"] for rank in range(2))
    assert len(first) == len(second)
    assert not set(first) & set(second)


def test_the_first_process_writes_the_files_of_a_run_of_one(together: Path, alone: Path) -> None:
    def files(folder: Path) -> set[str]:
        found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
        return {name for name in found if "tfevents" not in name}

    assert files(together / "whole") == files(alone)
    assert torch.load(together / "rank1.pt")["handlers"] == []
    record = json.loads((together / "whole" / "run.json").read_text())
    assert record["status"] == "finished"
    assert len(record["sessions"]) == 1
    keys = [sorted(load_state(f / "models" / "last.pt")["distiller"]) for f in (together / "whole", alone)]
    assert keys[0] == keys[1]


def test_a_stopped_run_that_two_processes_resume_ends_with_the_weights_of_one_that_was_not(
    together: Path,
) -> None:
    whole, part = (load_state(together / n / "models" / "last.pt") for n in ("whole", "part"))
    # the first process has the best student in memory by now, the second the averages after the last epoch
    found = torch.load(together / "rank1.pt")
    assert found["left"]
    for key in whole["distiller"]:
        assert torch.equal(whole["distiller"][key], part["distiller"][key]), key
        assert torch.equal(whole["average"]["mean"][key], part["average"]["mean"][key]), key
        assert torch.equal(whole["average"]["mean"][key], found["state"][key]), key
