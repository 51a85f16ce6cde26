"""Run id ``adapt`` in every bundle: the same ids, and a teacher that knows the task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from monai_difom.data import make_polyps
from tests.apps.autolabel.tiny import DEFINITION
from tests.bundles.commands import ROOT, bundle_workflow, call, command, first_cause

BUNDLES = sorted(folder.name for folder in (ROOT / "bundles").iterdir())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_polyps(folder, train=6, test=1, size=40)
    return folder


def adapt(bundle: str, data: Path, out: Path, **more: object) -> None:
    given = {
        "bundle_root": str(ROOT / "bundles" / bundle),
        "dataset_dir": str(data),
        "output_dir": str(out),
        "ckpt_dir": str(out / "models"),
        "image_size": 32,
        "teacher_size": 48,
        "batch_size": 2,
        "adapt_epochs": 1,
        "adapt_folds": 2,
        "progress": False,
        "device": "cpu",
        "teacher_def": DEFINITION,
        **more,
    }
    configs = ROOT / "bundles" / bundle / "configs"
    flow = bundle_workflow(configs, [str(configs / "train.yaml")], run_id="adapt", **given)
    flow.initialize()
    flow.run()


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_teacher_of_any_size_is_adapted(bundle: str, data: Path, tmp_path: Path) -> None:
    encoder = {"agglomerated_encoder": "test_efficientnet", "task_specific_kd": "test_vit"}.get(bundle)
    own = {"network_def#encoder": encoder} if encoder else {}
    adapt(bundle, data, tmp_path, **own)
    found = json.loads((tmp_path / "adapt" / "teacher.json").read_text())
    assert found["deployment"]["size"] == [48, 48]
    assert found["deployment"]["structures"] == ["foreground"]
    assert len(found["members"]) == 2
    assert found["test_sets"]["synthetic"]["n"] == 1
    assert not (tmp_path / "models").exists()


@pytest.mark.processes
def test_two_processes_adapt_one_teacher(data: Path, tmp_path: Path) -> None:
    (tmp_path / "teacher.yaml").write_text(yaml.safe_dump({"teacher_def": DEFINITION}))
    bundle = ROOT / "bundles" / "polyp_difom"
    files = [bundle / "configs/train.yaml", ROOT / "configs/multi_gpu.yaml", tmp_path / "teacher.yaml"]
    given = {"bundle_root": bundle, "dataset_dir": data, "output_dir": tmp_path / "out", "image_size": 32}
    given |= {"batch_size": 2, "adapt_epochs": 1, "progress": False, "device": "cpu"}
    words = command("adapt", [str(file) for file in files], **given)
    done = call(
        [words[0], "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", *words[1:]]
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "out/adapt/teacher.json").read_text())
    assert found["test_sets"]["synthetic"]["n"] == 1


def test_a_bundle_without_a_teacher_to_adapt_says_what_to_add(data: Path, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="Failed to") as caught:
        adapt("polyp_difom", data, tmp_path, teacher_def=None)
    assert "teacher_def is empty" in first_cause(caught.value)


def test_the_ids_of_an_adaptation_are_those_of_every_bundle() -> None:
    loaded = [yaml.safe_load((ROOT / f"bundles/{b}/configs/train.yaml").read_text()) for b in BUNDLES]
    shared = ("adapt", "adapt_dir", "adapt_seeds", "adapt_folds", "adapt_rate", "adapt_settings", "lora")
    for name in shared:
        assert all(config[name] == loaded[0][name] for config in loaded), name
    arguments = [{k: v for k, v in config["adaptation"].items() if k != "structures"} for config in loaded]
    assert all(found == arguments[0] for found in arguments)
