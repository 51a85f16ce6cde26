"""The polyp bundle as its user runs it, on synthetic polyps and a random teacher of the real class."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ckpt_export, verify_net_in_out
from PIL import Image

from monai_difom.apps import evaluate_sets
from monai_difom.apps.bundle.command_line import cause_of
from monai_difom.apps.features.command import run_features
from monai_difom.data import evaluation_chain, make_polyps
from monai_difom.networks.nets import DifomUNet
from monai_difom.utils import load_state
from tests.bundles.commands import (
    ROOT,
    bright_corner,
    bundle_workflow,
    call,
    check_metadata,
    command,
    same_scores,
)

BUNDLE = ROOT / "bundles" / "polyp_difom"
CONFIGS = BUNDLE / "configs"
FEATURES = [4, 6, 8, 8, 8]
workflow = partial(bundle_workflow, CONFIGS)
TRAIN = [str(CONFIGS / "train.yaml"), str(ROOT / "configs" / "teachers" / "imagenet_local.yaml")]


def options(data: Path, teacher: Path, out: Path, **more: Any) -> dict[str, Any]:
    return {
        "bundle_root": str(BUNDLE),
        "dataset_dir": str(data),
        "teacher_weights": str(teacher),
        "output_dir": str(out),
        "ckpt_dir": str(out / "models"),
        "image_size": 64,
        "batch_size": 4,
        "epochs": [1, 1, 1],
        "progress": False,
        "device": "cpu",
        "network_def#features": FEATURES,
        **more,
    }


@pytest.fixture(scope="session")
def trained(data: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the command that the README shows, in its own process."""
    out = tmp_path_factory.mktemp("runs") / "a"
    done = call(command("training", TRAIN, **options(data, teacher, out, limit=12)))
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_training_leaves_a_plain_student_and_a_summary(trained: Path) -> None:
    DifomUNet(2, 3, 1, FEATURES).load_state_dict(load_state(trained / "models" / "model.pt"))
    summary = json.loads((trained / "summary.json").read_text())
    scores = summary["test_sets"]["synthetic"]
    assert scores["n"] == 5
    assert 0 <= scores["iou"] <= scores["dice"] <= 1
    assert scores["hd95"] >= 0
    assert [phase["name"] for phase in summary["phases"]] == ["align", "distil", "refine"]
    assert summary["phases"][0]["weights"] == {"segmentation": 1.0, "bottleneck": 1.5, "stride8": 1.5}
    for result in summary["collapse"].values():
        assert {"r2", "target_variance", "effective_rank", "collapsed"} <= set(result)
        assert not result["collapsed"]
    assert summary["teachers"]["imagenet"]["licence"]
    assert (trained / "pictures" / "001_align.png").is_file()
    assert len((trained / "synthetic.csv").read_text().splitlines()) == 6


def test_training_leaves_a_bundle_of_its_own_that_scores_the_same(
    trained: Path, data: Path, tmp_path: Path
) -> None:
    bundle = trained / "bundle"
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    summary = json.loads((trained / "summary.json").read_text())
    (teacher,) = metadata["teachers"]
    assert teacher == {
        "name": "imagenet",
        **summary["teachers"]["imagenet"],
        "source": "mobilenetv2.safetensors",
    }
    assert teacher["licence"] in (bundle / "docs" / "README.md").read_text()
    config = str(bundle / "configs" / "evaluate.yaml")
    done = call(
        command(
            "evaluating", [config], bundle_root=bundle, dataset_dir=data, output_dir=tmp_path, device="cpu"
        )
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "evaluation.json").read_text())["test_sets"]["synthetic"]
    assert found == same_scores(summary["test_sets"]["synthetic"])


def test_training_leaves_a_record_that_runs_again_and_a_report(
    trained: Path, data: Path, teacher: Path, tmp_path: Path
) -> None:
    record = json.loads((trained / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["sessions"][0]["command"].startswith("python -m monai.bundle run training")
    assert record["teachers"]["imagenet"]["parameters"] > 1e6
    assert record["student"] == json.loads((trained / "summary.json").read_text())["student"]
    cost = record["cost"]
    assert cost["input"] == [64, 64]
    assert cost["milliseconds"] > 0
    assert cost["teachers"]["imagenet"]["gmacs"] > cost["gmacs"] > 0
    assert all(epoch["seconds"] > 0 for epoch in json.loads((trained / "history.json").read_text()))
    page = (trained / "report.html").read_text()
    for part in ("Results", "Pictures", "Collapse monitor", "What the student takes over", "GMACs"):
        assert part in page
    config = trained / "config.yaml"
    flow = workflow([str(config)], bundle_root=str(BUNDLE), output_dir=str(tmp_path), ckpt_dir=str(tmp_path))
    flow.initialize()
    assert flow.trainer.plan.epochs == 3
    assert sum(p.numel() for p in flow.trainer.network.parameters()) == record["student"]["parameters"]


def test_a_run_without_report_writes_none(data: Path, teacher: Path, tmp_path: Path) -> None:
    flow = workflow(TRAIN, **options(data, teacher, tmp_path, epochs=[0, 0, 1], report=False, limit=4))
    flow.initialize()
    flow.run()
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "finished"
    assert (tmp_path / "config.yaml").is_file()
    assert not (tmp_path / "report.html").exists()


def test_evaluating_finds_the_scores_of_the_training(trained: Path, data: Path, tmp_path: Path) -> None:
    flow = workflow(
        [str(CONFIGS / "evaluate.yaml")],
        workflow_type="eval",
        run_id="evaluating",
        bundle_root=str(BUNDLE),
        dataset_dir=str(data),
        ckpt_dir=str(trained / "models"),
        output_dir=str(tmp_path),
        image_size=64,
        **{"network_def#features": FEATURES},
    )
    flow.initialize()
    flow.run()
    found = json.loads((tmp_path / "evaluation.json").read_text())["test_sets"]
    expected = json.loads((trained / "summary.json").read_text())["test_sets"]
    for key, value in expected["synthetic"].items():
        assert found["synthetic"][key] == same_scores(value)


def test_weights_of_another_student_are_refused_with_their_keys(trained: Path) -> None:
    weights = trained / "models" / "model.pt"
    with pytest.raises(
        ValueError, match=r"does not fit DifomUNet: .*unexpected keys.*first: encoder\.\d.*overlay"
    ):
        evaluate_sets(DifomUNet(2, 3, 1, FEATURES[:3]), {}, evaluation_chain(64), weights=weights)


def test_inference_writes_upright_masks_at_the_size_of_the_image(trained: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    bright = bright_corner(images)
    flow = workflow(
        [str(CONFIGS / "inference.yaml")],
        workflow_type="infer",
        bundle_root=str(BUNDLE),
        dataset_dir=str(images),
        ckpt_dir=str(trained / "models"),
        output_dir=str(tmp_path / "masks"),
        image_size=64,
        **{"network_def#features": FEATURES},
    )
    flow.initialize()
    assert flow.check_properties() == []
    # a student that marks what is bright in its upright input, so that the way back is visible
    flow.evaluator.network = _Bright()
    flow.run()
    with Image.open(tmp_path / "masks" / "wide_mask.png") as mask:
        found = np.asarray(mask)
    assert found.shape == (50, 70)
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 1}
    assert (found == bright).mean() > 0.97


@pytest.mark.parametrize(("make", "message"), [(False, "no folder"), (True, "holds no images but sub")])
def test_inference_of_a_folder_without_images_is_refused(make: bool, message: str, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    if make:
        (folder / "sub").mkdir(parents=True)
    words = {"workflow_type": "infer", "bundle_root": str(BUNDLE), "dataset_dir": str(folder)}
    flow = workflow([str(CONFIGS / "inference.yaml")], load_pretrain=False, **words)
    flow.initialize()
    with pytest.raises(RuntimeError) as caught:
        flow.run()
    assert message in str(cause_of(caught.value))


class _Bright(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean(1, keepdim=True) * 10


def test_the_zoo_finds_every_property_of_the_training(data: Path, teacher: Path, tmp_path: Path) -> None:
    flow = workflow(TRAIN, **options(data, teacher, tmp_path))
    flow.initialize()
    assert flow.check_properties() == []


def test_the_training_file_runs_alone(data: Path, teacher: Path, tmp_path: Path) -> None:
    flow = workflow(TRAIN[:1], **options(data, teacher, tmp_path, epochs=[0, 0, 1]))
    flow.initialize()
    assert flow.check_properties() == []


def test_the_zoo_verifies_metadata_shapes_and_export(trained: Path, tmp_path: Path) -> None:
    meta, config = str(CONFIGS / "metadata.json"), str(CONFIGS / "inference.yaml")
    features = {"network_def#features": FEATURES}
    verify_net_in_out("network_def", meta_file=meta, config_file=config)
    target = tmp_path / "model.ts"
    weights = str(trained / "models" / "model.pt")
    ckpt_export(
        "network_def", filepath=str(target), ckpt_file=weights, meta_file=meta, config_file=config, **features
    )
    student = DifomUNet(2, 3, 1, FEATURES).eval()
    student.load_state_dict(load_state(weights))
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(torch.jit.load(target)(image), student(image))


def test_the_metadata_follow_the_zoo_schema(tmp_path: Path, shared_data: Path) -> None:
    check_metadata(BUNDLE, shared_data.parent, tmp_path)
    meta = json.loads((CONFIGS / "metadata.json").read_text())
    assert meta["changelog"][meta["version"]]


def test_the_first_weights_depend_on_the_seed_alone(data: Path, teacher: Path, tmp_path: Path) -> None:
    arms = {"default": TRAIN, "undistilled": [*TRAIN, str(ROOT / "configs/phases/undistilled.yaml")]}
    first = {}
    for name, files in arms.items():
        flow = workflow(files, **options(data, teacher, tmp_path))
        flow.initialize()
        first[name] = {k: v.clone() for k, v in flow.trainer.network.state_dict().items()}
    assert all(torch.equal(first["default"][key], first["undistilled"][key]) for key in first["default"])


def test_the_published_recipe_runs_and_leaves_a_student_without_latents(
    data: Path, teacher: Path, tmp_path: Path
) -> None:
    files = [*TRAIN, str(ROOT / "configs/phases/paper.yaml")]
    flow = workflow(files, **options(data, teacher, tmp_path, image_size=128))
    flow.initialize()
    flow.run()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["collapse"]) == {"low", "high"}
    DifomUNet(2, 3, 1, FEATURES).load_state_dict(load_state(tmp_path / "models" / "model.pt"))
    deployed = yaml.safe_load((tmp_path / "bundle" / "configs" / "inference.yaml").read_text())["network_def"]
    assert (deployed["latents"], deployed["features"]) == ("none", FEATURES)


def test_a_killed_run_that_is_resumed_has_the_weights_of_one_that_was_not(
    trained: Path, data: Path, teacher: Path, tmp_path: Path
) -> None:
    given = options(data, teacher, tmp_path, limit=12)
    process = subprocess.Popen(
        command("training", TRAIN, **given),
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    last = tmp_path / "models" / "last.pt"
    while not last.exists() and process.poll() is None:
        time.sleep(0.01)
    time.sleep(
        random.uniform(0, 0.2)
    )  # the rest takes 0.4 s where processors are fast: later it would be finished
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert last.exists()
    done = call(command("training", TRAIN, **given, resume=last))
    assert done.returncode == 0, done.stdout + done.stderr
    expected, found = (
        load_state(folder / "models" / "last.pt")["distiller"] for folder in (trained, tmp_path)
    )
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    expected, found = (json.loads((folder / "summary.json").read_text()) for folder in (trained, tmp_path))
    assert expected["test_sets"] == found["test_sets"]
    sessions = json.loads((tmp_path / "run.json").read_text())["sessions"]
    assert len(sessions) == 2
    assert "finished" not in sessions[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 42}, "cannot take a 42x42 image"),
        ({"epochs": [1, 1]}, "one for each phase: align, distil, refine"),
        ({"dataset_dir": "nowhere"}, "nowhere"),
        ({"phases#0#weights": {"segmentation": 1, "botleneck": 1}}, "Did you mean 'bottleneck'"),
    ],
)
def test_bad_options_are_named_with_what_is_allowed(
    change: dict, message: str, data: Path, teacher: Path, tmp_path: Path
) -> None:
    flow = workflow(TRAIN, **{**options(data, teacher, tmp_path), **change}, run_id="training")

    def train() -> None:
        flow.initialize()
        flow.run()

    with pytest.raises(Exception, match="Failed to ") as caught:
        train()
    assert message in str(cause_of(caught.value))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imagesize": 64}, "unknown option of this bundle 'imagesize'. Did you mean 'image_size'"),
        ({"teacher_weights": "absent.safetensors"}, "absent.safetensors"),
    ],
)
def test_a_failed_command_ends_with_what_went_wrong(
    change: dict, message: str, data: Path, teacher: Path, tmp_path: Path
) -> None:
    given = {**options(data, teacher, tmp_path), **change}
    done = call(command("training", TRAIN, **given))
    assert done.returncode != 0
    assert message in done.stderr.rpartition("Failed to ")[2]  # below the wrappers of MONAI


def test_check_data_names_a_truncated_image_before_training_starts(teacher: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    make_polyps(folder, train=8, test=1, size=48)
    victim = sorted((folder / "TrainDataset" / "image").iterdir())[3]
    victim.write_bytes(victim.read_bytes()[:400])
    flow = workflow(TRAIN, **options(folder, teacher, tmp_path, check_data=True))
    with pytest.raises(Exception, match="Failed to evaluate") as caught:
        flow.initialize()
    assert victim.name in str(cause_of(caught.value))


def test_the_features_are_stored_once_and_training_reads_them(
    data: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = options(data, teacher, tmp_path, limit=8, feature_store=str(tmp_path / "store"), feature_views=2)
    words = ["--config_file", str(TRAIN)]
    for key, value in given.items():
        words += [f"--{key}", str(value)]
    assert run_features("estimate", words) == 0
    assert "10 images, 18 targets of" in capsys.readouterr().out
    flow = workflow(TRAIN, **{**given, "run_id": "features"})
    flow.initialize()
    flow.run()
    assert run_features("build", words) == 0
    assert "0 targets in 0 shards written" in capsys.readouterr().out
    assert run_features("verify", [*words, "--samples", "5"]) == 0
    assert "5 targets computed again: good" in capsys.readouterr().out
    assert run_features("info", []) == 1
    assert "no feature store is named" in capsys.readouterr().err
    assert run_features("info", ["--feature_store", given["feature_store"]]) == 0
    assert "term stride8: fused at tap stride8" in capsys.readouterr().out

    flow = workflow(TRAIN, **given)
    flow.initialize()
    for frozen in flow.trainer.targets.teachers.values():
        frozen.extract = None  # a teacher that is run fails
    flow.run()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["collapse"]) == {"bottleneck", "stride8"}
    assert summary["teachers"]["imagenet"]["licence"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature_stor": "x"}, "Did you mean 'feature_store'"),
        ({"feature_store": ""}, "no feature store is named"),
        ({"feature_store": "x", "feature_policy": "warp"}, "'online'.*'views'.*'frozen'"),
        ({"feature_store": "x", "feature_dtype": "int8"}, "unknown feature_dtype 'int8'"),
        ({"config_file": ""}, "no configuration: give --config_file"),
        ({"samples": "abc"}, "samples is 'abc'; allowed are whole numbers from 1"),
        ({"samples": "0"}, "samples is '0'"),
        ({"samples": "-3"}, "samples is '-3'"),
    ],
)
def test_bad_options_of_the_features_verb_are_named(
    change: dict, message: str, data: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"config_file": TRAIN, **options(data, teacher, tmp_path, limit=8), **change}
    words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    assert run_features("build", words) == 1
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.real_data
def test_real_polyps_and_the_real_teacher_train_to_the_end(shared_data: Path, tmp_path: Path) -> None:
    weights = shared_data.parent / "weights" / "mobilenetv2_100_same_imagenet.safetensors"
    if not weights.is_file():
        pytest.skip(f"no teacher at {weights}")
    given = options(shared_data / "polyp", weights, tmp_path, limit=16, image_size=96, cache_rate=0.0)
    flow = workflow(TRAIN, **{k: v for k, v in given.items() if k != "network_def#features"})
    flow.initialize()
    flow.run()
    sets = json.loads((tmp_path / "summary.json").read_text())["test_sets"]
    assert {name: scores["n"] for name, scores in sets.items()} == {"Kvasir": 100, "CVC-ClinicDB": 62}


def test_a_missing_weight_file_of_the_teacher_is_said_before_any_image_is_read(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monai_difom.data import dataset

    def never(*_: object, **__: object) -> None:
        raise AssertionError("images were read first")

    monkeypatch.setattr(dataset, "_NamedCache", never)
    override = {
        "dataset_dir": str(data),
        "output_dir": str(tmp_path),
        "ckpt_dir": str(tmp_path),
        "image_size": 32,
    }
    workflow = bundle_workflow(
        CONFIGS, TRAIN, bundle_root=str(BUNDLE), teacher_weights="nowhere.safetensors", **override
    )
    workflow.initialize()
    with pytest.raises(Exception, match=r".") as caught:
        workflow.run()
    assert "nowhere.safetensors" in str(cause_of(caught.value))
