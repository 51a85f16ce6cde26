"""The bundle of task-specific distillation as its user runs it: tiny networks on small data sets in real layouts."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from monai.bundle import ckpt_export, verify_metadata, verify_net_in_out
from PIL import Image
from safetensors.torch import load_file, save_file

from monai_difom.data import make_polyps, train_validation
from monai_difom.handlers import TrainingCheckpoint
from monai_difom.networks.lora import load_adapters
from monai_difom.networks.nets import SamSegmenter, ViTSegmenter
from monai_difom.networks.nets.sam_segmenter import _COMMON, _build_sam
from monai_difom.utils import load_state
from tests.bundles.commands import ROOT, bundle_workflow, first_cause, same_scores
from tests.engines.test_diffusion import TINY as TINY_DIFFUSION
from tests.layouts import make_drive, make_kidneyus
from tests.tiny import TINY_SAM, tiny_transformers_sam

BUNDLE = ROOT / "bundles" / "task_specific_kd"
CONFIGS = BUNDLE / "configs"
workflow = partial(bundle_workflow, CONFIGS)
ARMS = sorted(file.stem for file in (ROOT / "configs" / "arms").glob("*.yaml"))


def files(*overlays: str) -> list[str]:
    return [str(CONFIGS / "train.yaml"), *(str(ROOT / "configs" / f"{name}.yaml") for name in overlays)]


SMALL = files("teachers/sam_small")


def options(data: Path, out: Path, **more: Any) -> dict[str, Any]:
    return {
        "bundle_root": str(BUNDLE),
        "dataset_dir": str(data),
        "output_dir": str(out),
        "ckpt_dir": str(out / "models"),
        "image_size": 32,
        "batch_size": 3,
        "epochs": [1, 1, 1],
        "transfer_count": 6,
        "progress": False,
        "report": False,
        "device": "cpu",
        "network_def#encoder": "test_vit",
        "teacher_def#architecture": TINY_SAM,
        "teacher_layers": [1, 2],
        "layer_map": {"layer1": "layer3", "layer2": "layer6"},
        **more,
    }


def run(overlays: list[str], **given: Any) -> Any:
    flow = workflow(overlays, **given)
    flow.initialize()
    flow.run()
    return flow


def refusal(overlays: list[str], **given: Any) -> str:
    with pytest.raises(Exception, match="Failed to evaluate") as caught:
        run(overlays, **given)
    return first_cause(caught.value)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    make_polyps(folder, train=8, test=3, size=40, seed=2)
    return folder


@pytest.fixture(scope="session")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "a"
    run(SMALL, **options(data, out, report=True, epochs=[1, 2, 1]))
    return out


@pytest.fixture(scope="session")
def sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A native checkpoint of segment-anything, tiny."""
    file = tmp_path_factory.mktemp("sam") / "sam.pth"
    torch.manual_seed(3)
    torch.save(_build_sam({**_COMMON, **TINY_SAM}).state_dict(), file)
    return file


def lora(data: Path, out: Path, sam: Path, **more: Any) -> dict[str, Any]:
    return options(data, out, sam_weights=str(sam), sam_type="small", teacher_size=48, **more)


def test_three_phases_leave_a_plain_student_and_a_summary_in_the_form_of_the_first_bundle(
    trained: Path,
) -> None:
    ViTSegmenter(2, 3, 1, "test_vit", image_size=32).load_state_dict(
        load_state(trained / "models" / "model.pt")
    )
    summary = json.loads((trained / "summary.json").read_text())
    assert [phase["name"] for phase in summary["phases"]] == ["adapt", "distil", "finetune"]
    assert summary["phases"][1]["weights"] == {"layer1": 1.0, "layer2": 1.0, "prediction": 1.0}
    assert set(summary["collapse"]) == {"layer1", "layer2", "prediction"}
    assert summary["test_sets"]["synthetic"]["n"] == 3
    assert set(summary) >= {"best", "targets", "student", "versions"}
    assert summary["stages"]["adapt"]["test_sets"]["synthetic"]["n"] == 3
    assert summary["teachers"]["task"]["licence"]
    history = json.loads((trained / "history.json").read_text())
    assert [(entry["epoch"], entry["phase"]) for entry in history] == [
        (1, "adapt"),
        (2, "distil"),
        (3, "distil"),
        (4, "finetune"),
    ]
    assert (trained / "report.html").is_file()
    metadata = json.loads((trained / "bundle" / "configs" / "metadata.json").read_text())
    assert metadata["teachers"][0]["source"].startswith("small SAM-shaped network")
    assert json.loads((trained / "transfer" / "duplicates.json").read_text())["to_test"]["min"] > 0


def test_the_trained_bundle_scores_what_the_training_scored(
    trained: Path, data: Path, tmp_path: Path
) -> None:
    configs = trained / "bundle" / "configs"
    flow = bundle_workflow(
        configs,
        [str(configs / "evaluate.yaml")],
        run_id="evaluating",
        workflow_type="eval",
        bundle_root=str(trained / "bundle"),
        dataset_dir=str(data),
        output_dir=str(tmp_path),
        device="cpu",
    )
    flow.initialize()
    flow.run()
    found = json.loads((tmp_path / "evaluation.json").read_text())["test_sets"]["synthetic"]
    expected = json.loads((trained / "summary.json").read_text())["test_sets"]["synthetic"]
    assert found == same_scores(expected)


def test_phases_one_by_one_end_as_all_in_one_and_what_is_finished_is_not_done_twice(
    trained: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = options(data, tmp_path, epochs=[1, 2, 1])
    run(SMALL, run_id="adapt", **given)
    assert not (tmp_path / "distil").exists()
    with monkeypatch.context() as patch:
        written = TrainingCheckpoint._completed

        def killed(self: TrainingCheckpoint, engine: Any) -> None:
            written(self, engine)
            raise KeyboardInterrupt("killed after an epoch")

        patch.setattr(TrainingCheckpoint, "_completed", killed)
        with pytest.raises((KeyboardInterrupt, RuntimeError)):
            run(SMALL, run_id="distil", **given)
    assert load_state(tmp_path / "distil" / "models" / "last.pt")["epoch"] == 1
    assert not json.loads((tmp_path / "distil" / "stage.json").read_text())["finished"]
    assert not (tmp_path / "models").exists()
    run(SMALL, **given)
    expected, found = (load_state(folder / "models" / "model.pt") for folder in (trained, tmp_path))
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    before = (tmp_path / "models" / "model.pt").stat().st_mtime_ns
    flow = run(SMALL, **given)
    assert (tmp_path / "models" / "model.pt").stat().st_mtime_ns == before
    assert "train::trainer" not in flow.parser.ref_resolver.resolved_content
    assert "image_size 32 (now 48)" in refusal(SMALL, **{**given, "image_size": 48})


def test_the_zoo_finds_every_property(data: Path, trained: Path, tmp_path: Path) -> None:
    flow = workflow(files(), **options(data, tmp_path))
    flow.initialize()
    assert flow.check_properties() == []
    flow = workflow(
        [str(CONFIGS / "inference.yaml")],
        workflow_type="infer",
        bundle_root=str(BUNDLE),
        dataset_dir=str(data / "TestDataset/synthetic/images"),
        ckpt_dir=str(trained / "models"),
        output_dir=str(tmp_path / "masks"),
        image_size=32,
        **{"network_def#encoder": "test_vit"},
    )
    flow.initialize()
    assert flow.check_properties() == []
    flow.run()
    with Image.open(sorted((tmp_path / "masks").iterdir())[0]) as mask:
        assert mask.size == (40, 40)


def test_the_zoo_verifies_metadata_shapes_and_export(
    trained: Path, tmp_path: Path, shared_data: Path
) -> None:
    schema = tmp_path / "schema.json"
    schema.write_bytes((shared_data.parent / "schema" / "meta_schema_20240725.json").read_bytes())
    meta, config = str(CONFIGS / "metadata.json"), str(CONFIGS / "inference.yaml")
    verify_metadata(meta_file=meta, filepath=str(schema))
    verify_net_in_out("network_def", meta_file=meta, config_file=config)
    target, weights = tmp_path / "model.ts", str(trained / "models" / "model.pt")
    changes = {"network_def#encoder": "test_vit", "image_size": 32}
    ckpt_export(
        "network_def", filepath=str(target), ckpt_file=weights, meta_file=meta, config_file=config, **changes
    )
    student = ViTSegmenter(2, 3, 1, "test_vit", image_size=32).eval()
    student.load_state_dict(load_state(weights))
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(torch.jit.load(target)(image), student(image), atol=1e-5, rtol=1e-4)


@pytest.fixture(scope="session")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Weight files in timm's layouts, of the student's encoder and of the teacher's."""
    folder = tmp_path_factory.mktemp("imagenet")
    torch.manual_seed(1)
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), str(folder / "vit.safetensors"))
    network = timm.create_model("mobilenetv2_100", pretrained=False, pad_type="same", features_only=True)
    save_file(network.state_dict(), str(folder / "mobilenet.safetensors"))
    return {"student": str(folder / "vit.safetensors"), "teacher": str(folder / "mobilenet.safetensors")}


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_starts_from_the_same_student_and_sees_the_same_labelled_images(
    arm: str, data: Path, imagenet: dict[str, str], tmp_path: Path
) -> None:
    taught = arm.startswith("task")
    teacher = "teachers/unet_adapted" if taught else "teachers/sam_small"
    given = options(data, tmp_path, limit=3, epochs=[1, 1, 1])
    if taught:
        for key in ("teacher_def#architecture", "teacher_layers"):
            del given[key]
        given |= {"layer_map": {"stride16": "layer3", "bottleneck": "layer6"}, "teacher_size": 32}
        given["teacher_weights"] = imagenet["teacher"]
    if arm == "imagenet":
        given["imagenet_weights"] = imagenet["student"]
    flow = workflow(files(teacher, f"arms/{arm}"), **given)
    flow.initialize()
    torch.manual_seed(0)
    first = {k: v.clone() for k, v in flow.parser.get_parsed_content("network").state_dict().items()}
    assert first.keys() == START.setdefault("network", first).keys()
    assert all(torch.equal(first[key], value) for key, value in START["network"].items())
    flow.run()
    dataset = flow.parser.get_parsed_content("train#dataset")
    assert dataset.data == train_validation(data, 0.1, 0, 3)[0]
    assert dataset.data == START.setdefault("data", dataset.data)
    assert torch.equal(dataset[0, 1]["image"], START.setdefault("image", dataset[0, 1]["image"]))
    summary = json.loads((tmp_path / "summary.json").read_text())
    before = {"task_specific": ["adapt", "distil"], "task_agnostic": ["distil"]}.get(arm, [])
    assert [phase["name"] for phase in summary["phases"]] == [*before, "finetune"]
    assert set(summary["collapse"]) == {
        "task_specific": {"stride16", "bottleneck", "prediction"},
        "task_agnostic": {"stride16", "bottleneck"},
    }.get(arm, set())
    assert (tmp_path / "pretrain" / "encoder.safetensors").is_file() == (arm in ("mae", "moco_v3"))


START: dict[str, Any] = {}


def test_an_arm_gives_the_encoder_its_weights_and_leaves_the_decoder(
    data: Path, imagenet: dict[str, str], tmp_path: Path
) -> None:
    weights = imagenet["student"]
    flow = workflow(
        files("teachers/sam_small", "arms/imagenet"), **options(data, tmp_path, imagenet_weights=weights)
    )
    flow.initialize()
    network = flow.parser.get_parsed_content("network")
    first = {k: v.clone() for k, v in network.state_dict().items()}
    flow.parser.get_parsed_content("start")
    state, published = network.state_dict(), load_file(weights)
    key = "blocks.0.attn.qkv.weight"
    assert torch.equal(state[f"encoder.model.{key}"], published[key])
    decoder = [name for name in first if not name.startswith("encoder.")]
    assert all(torch.equal(state[name], first[name]) for name in decoder)


def test_a_sam_is_adapted_by_adapters_alone_and_its_targets_are_stored(
    data: Path, sam: Path, tmp_path: Path
) -> None:
    out, store = tmp_path / "a", str(tmp_path / "store")
    folder = {"transfer": "folder", "transfer_dir": str(data / "TrainDataset" / "image")}
    given = lora(
        data, out, sam, **folder, feature_store=store, feature_views=2, **{"lora#rank": 2, "adapt_rate": 0.01}
    )
    overlay = files("teachers/sam_lora")
    flow = run(overlay, **given)
    teacher = flow.parser.get_parsed_content("teachers")["task"]
    assert teacher.adapter
    assert not any("lora" in name for name in teacher.state_dict())
    adapters = load_file(out / "adapt" / "adapters.safetensors")
    kept = [key for key in load_state(out / "adapt" / "models" / "model.pt") if "lora_" not in key]
    assert sorted(kept) == sorted(key for key in adapters if "lora_" not in key)
    assert all("mask_tokens" in key or "hypernetworks" in key for key in kept)
    assert (out / "adapt" / "adapters.safetensors").stat().st_size < sam.stat().st_size
    # everything else of the adapted network is what the file holds: adapters on other weights are refused
    load_adapters(
        SamSegmenter(model_type="small", architecture=TINY_SAM, weights=sam),
        out / "adapt" / "adapters.safetensors",
    )

    # adapted anew, it says other things: what is stored of it is refused
    again = {**given, "output_dir": str(tmp_path / "b"), "ckpt_dir": str(tmp_path / "b"), "adapt_rate": 0.02}
    run(overlay, run_id="adapt", **again)
    shutil.rmtree(tmp_path / "b" / "distil", ignore_errors=True)
    message = refusal(overlay, run_id="distil", **again)
    assert "the feature store" in message
    assert "teachers.task" in message


def test_a_transfer_set_by_diffusion_is_drawn_before_it_is_used(data: Path, tmp_path: Path) -> None:
    given = options(
        data, tmp_path, transfer="diffusion", transfer_count=4, synthesis_steps=2, sampling_steps=2
    )
    given |= {"synthesis": TINY_DIFFUSION, "adapt_epochs": 1, "min_confidence": 0.6}
    assert "run the id synthesize first" in refusal(SMALL, run_id="distil", **given)
    run(SMALL, **given)
    assert len(list((tmp_path / "synthetic" / "images").iterdir())) == 4
    report = json.loads((tmp_path / "synthetic" / "duplicates.json").read_text())
    assert report["to_test"]["min"] > 0
    assert json.loads((tmp_path / "summary.json").read_text())["test_sets"]["synthetic"]["n"] == 3


def test_bad_input_is_named_with_what_is_allowed(data: Path, sam: Path, tmp_path: Path) -> None:
    given = options(data, tmp_path)
    leaked = tmp_path / "leaked"
    shutil.copytree(data / "TrainDataset" / "image", leaked)
    victim = sorted((data / "TestDataset" / "synthetic" / "images").iterdir())[0]
    shutil.copy(victim, leaked / "innocent.png")
    cases: list[tuple[str, str, dict[str, Any]]] = [
        ("pretrain", "innocent.png equals the test image", {"transfer": "folder", "transfer_dir": leaked}),
        ("adapt", "the network gives 3 classes (SamSegmenter), but the masks have 1", {"teacher_def#out_channels": 3}),
        ("finetune", "no distilled student at", {}),
        ("distil", "model.pt", {}),
        ("synthesize", "7 images for batches of 64", {"synthesis": {**TINY_DIFFUSION, "batch_size": 64}}),
        ("pretrain", "unknown transfer 'foldr'", {"transfer": "foldr"}),
        ("pretrain", "give transfer_dir", {"transfer": "folder"}),
    ]  # fmt: skip
    for run_id, expected, change in cases:
        change = {key: str(value) if isinstance(value, Path) else value for key, value in change.items()}
        out = tmp_path / run_id / str(len(expected))
        message = refusal(
            SMALL, run_id=run_id, **{**given, "output_dir": str(out), "ckpt_dir": str(out), **change}
        )
        assert expected in message, message
    wrong = lora(data, tmp_path / "lora", sam, **{"lora#targets": ["qvk"]})
    message = refusal(files("teachers/sam_lora"), run_id="adapt", **wrong)
    assert "LoRA target 'qvk' matches no" in message
    assert "Near: qkv" in message


@pytest.mark.real_data
def test_real_vessels_are_trained_to_the_end(shared_data: Path, tmp_path: Path) -> None:
    given = options(shared_data / "DRIVE", tmp_path, limit=4, image_size=48)
    run(files("teachers/sam_small", "data/drive"), **given)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["test_sets"]["test"]["n"] == 20


def test_a_sam_of_transformers_is_adapted_too(data: Path, tmp_path: Path) -> None:
    folder = tiny_transformers_sam(tmp_path)
    given = lora(data, tmp_path / "a", folder, **{"teacher_def#architecture": None})
    run(files("teachers/sam_lora"), run_id="adapt", **given)
    assert (tmp_path / "a" / "adapt" / "adapters.safetensors").is_file()


def test_several_classes_are_adapted_distilled_and_fine_tuned(tmp_path: Path) -> None:
    make_kidneyus(tmp_path / "data")
    given = options(tmp_path / "data", tmp_path, test_fraction=0.3, val_fraction=0.3)
    flow = run(files("teachers/sam_small", "data/kidneyus_regions"), **given)
    targets = flow.parser.get_parsed_content("targets")
    assert targets.channels("prediction") == 3
    assert load_state(tmp_path / "models" / "model.pt")["head.weight"].shape[0] == 3


def test_vessels_in_their_published_folders_are_taken(tmp_path: Path) -> None:
    make_drive(tmp_path / "data")
    run(files("teachers/sam_small", "data/drive"), run_id="adapt", **options(tmp_path / "data", tmp_path))
    assert (tmp_path / "adapt" / "models" / "model.pt").is_file()
