"""MONAI's ``--tracking mlflow`` notes what the run was, and every term and weight by epoch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from monai_difom.data import make_polyps

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundles" / "polyp_difom"


def test_a_tracked_run_holds_parameters_and_every_term_and_weight_by_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    make_polyps(tmp_path / "data", train=8, test=1, size=48)
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", pretrained=False, features_only=True)
    save_file(network.state_dict(), str(tmp_path / "teacher.safetensors"))
    out = tmp_path / "run"
    options = {
        "bundle_root": BUNDLE,
        "config_file": BUNDLE / "configs" / "train.yaml",
        "tracking": "mlflow",
        "dataset_dir": tmp_path / "data",
        "teacher_weights": tmp_path / "teacher.safetensors",
        "teachers#imagenet#name": "test_efficientnet",
        "output_dir": out,
        "ckpt_dir": out / "models",
        "network_def#features": "[4,6,8,8,8]",
        "image_size": 32,
        "batch_size": 4,
        "epochs": "[1,0,1]",
        "device": "cpu",
        "progress": False,
        "report": False,
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", "training", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    client = mlflow.MlflowClient(f"sqlite:///{out / 'mlruns.db'}")
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert run.data.params["phases"] == "align 1, distil 0, refine 1"
    assert run.data.params["teachers"] == "imagenet"
    assert run.data.params["seed"] == "0"
    history = json.loads((out / "history.json").read_text())
    for group in ("terms", "weights"):
        for term, value in history[0][group].items():
            noted = client.get_metric_history(run.info.run_id, f"{group}/{term}")
            assert noted[0].step == 1
            assert noted[0].value == pytest.approx(value)
    segmentation = client.get_metric_history(run.info.run_id, "terms/segmentation")
    assert [each.step for each in segmentation] == [1, 2]
    assert len(client.get_metric_history(run.info.run_id, "terms/bottleneck")) == 1
    assert client.get_metric_history(run.info.run_id, "val_dice")
    assert list(out.glob("config_*.json"))  # by MONAI, beside the database
