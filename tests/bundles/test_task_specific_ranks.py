"""Two processes of `configs/multi_gpu.yaml` go through the stages of `task_specific_kd` as one does on the joined batch."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from monai_difom.data import make_polyps
from tests.bundles.commands import call, command
from tests.bundles.test_task_specific_kd import files, options, run

pytestmark = pytest.mark.processes


def test_two_processes_have_the_loss_curve_of_one_in_every_stage(tmp_path: Path) -> None:
    data = tmp_path / "data"
    make_polyps(data, train=8, test=3, size=40, seed=2)
    overlays = ("teachers/sam_small", "arms/task_agnostic")
    given = {"epochs": [0, 2, 1], "val_fraction": 0.3}
    run(files(*overlays), **options(data, tmp_path / "alone", batch_size=4, **given))
    shared = options(data, tmp_path / "together", batch_size=2, **given)
    del shared["device"]  # the overlay's
    words = command("training", files(*overlays, "multi_gpu"), **shared)
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    done = call([sys.executable, *launch, *words[1:]])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    curves = []
    for name in ("alone", "together"):
        stages = list((tmp_path / name).rglob("stage.json"))
        assert len(stages) == 2
        assert all(json.loads(stage.read_text())["finished"] for stage in stages)
        curves.append(json.loads((tmp_path / name / "history.json").read_text()))
    assert [entry["phase"] for entry in curves[1]] == ["distil", "distil", "finetune"]
    for one, other in zip(*curves, strict=True):
        # the decoder's batch norm measures each process's part of the batch
        close = 1e-4 if one["phase"] == "distil" else 5e-2
        assert one["terms"] == pytest.approx(other["terms"], rel=close), one["phase"]
