"""The bundle of several teachers, from the command to the trained bundle, on synthetic polyps and synthetic swallows."""

from __future__ import annotations

import csv
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ckpt_export, verify_net_in_out
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from monai_difom.apps import export_encoder
from monai_difom.data import STRUCTURES, make_fluoroscopy
from monai_difom.networks.nets import LightSegmenter
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

from ..configs.test_configs import LOCAL, local  # noqa: F401 - a fixture
from ..tiny import make_teacher

BUNDLE = ROOT / "bundles" / "agglomerated_encoder"
CONFIGS = BUNDLE / "configs"
TRAIN = str(CONFIGS / "train.yaml")
IMAGENET = str(ROOT / "configs" / "teachers" / "imagenet_local.yaml")
ENCODER = "test_efficientnet"
workflow = partial(bundle_workflow, CONFIGS)


def options(data: Path, out: Path, **more: Any) -> dict[str, Any]:
    return {
        "bundle_root": str(BUNDLE),
        "dataset_dir": str(data),
        "output_dir": str(out),
        "ckpt_dir": str(out / "models"),
        "image_size": 64,
        "batch_size": 4,
        "epochs": [1, 1, 1],
        "encoder": ENCODER,
        "progress": False,
        "device": "cpu",
        **more,
    }


def two() -> dict[str, Any]:
    """Two small teachers of different features on different grids."""
    return {
        "teachers": {"first": make_teacher(1), "second": make_teacher(2)},
        "teacher_maps": {"second": "fine"},
    }


def run(files: list[str], given: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Run a training in this process and return its summary."""
    flow = workflow(files, **given, **more)
    flow.initialize()
    flow.run()
    return json.loads((Path(given["output_dir"]) / "summary.json").read_text())


@pytest.fixture(scope="session")
def trained(data: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of the README, in its own process."""
    out = tmp_path_factory.mktemp("runs") / "g"
    done = call(
        command("training", [TRAIN, IMAGENET], **options(data, out, teacher_weights=teacher, limit=12))
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="session")
def swallows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swallows")
    make_fluoroscopy(folder / "labelled", patients=4, test_patients=2, frames=2, size=64, missing=0.25)
    make_fluoroscopy(folder / "more", patients=2, test_patients=0, frames=2, size=64, seed=5)
    return folder / "labelled"


@pytest.fixture(scope="session")
def many(swallows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve structures, two teachers, images without masks beside those with."""
    out = tmp_path_factory.mktemp("runs") / "many"
    given = options(swallows, out, group="frames.csv:patient", val_fraction=0.25, check_data=True)
    run(
        [TRAIN],
        {**given, **two(), "unlabelled_dir": str(swallows.parent / "more" / "TrainDataset" / "images")},
    )
    return out


def test_training_leaves_what_the_first_bundle_leaves_and_the_balancer(trained: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    scores = summary["test_sets"]["synthetic"]
    assert scores["n"] == 5
    assert 0 <= scores["iou"] <= scores["dice"] <= 1
    assert "structures" not in scores
    assert [phase["name"] for phase in summary["phases"]] == ["agglomerate", "segment", "refine"]
    assert [phase["weights"] for phase in summary["phases"]] == [
        {"imagenet": 1.0},
        {"segmentation": 1.0, "imagenet": 0.5},
        {"segmentation": 1.0},
    ]
    first, second, last = summary["balancer"]["phases"]
    assert first["balance"] == second["balance"] == {"imagenet": 1.0}
    assert last["balance"] == {}
    assert set(summary["collapse"]["imagenet"]) >= {"r2", "target_variance", "effective_rank", "collapsed"}
    assert summary["teachers"]["imagenet"]["licence"]
    assert (trained / "pictures" / "001_agglomerate.png").is_file()
    assert "Teachers side by side" in (trained / "report.html").read_text()


def test_nothing_of_heads_and_balancers_is_in_the_student_which_costs_what_the_plain_one_costs(
    many: Path,
) -> None:
    plain = LightSegmenter(2, 3, len(STRUCTURES), encoder=ENCODER)
    state = load_state(many / "models" / "model.pt")
    assert set(state) == set(plain.state_dict())
    plain.load_state_dict(state)
    cost = json.loads((many / "run.json").read_text())["cost"]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        plain.eval()(torch.zeros(1, 3, 64, 64))
    assert cost["gmacs"] == pytest.approx(counter.get_total_flops() / 2e9)


def test_every_structure_is_scored_where_it_was_annotated_and_counted_where_not(
    many: Path, swallows: Path
) -> None:
    found = json.loads((many / "summary.json").read_text())["test_sets"]["synthetic"]
    masks = swallows / "TestDataset" / "synthetic" / "masks"
    for name in STRUCTURES:
        annotated = len(list((masks / name).glob("*.png"))) if (masks / name).is_dir() else 0
        assert found["missing"][name] == 4 - annotated
        assert found["structures"].get(name, {"n": 0})["n"] == annotated
    assert sum(found["missing"].values()) > 0
    own = found["structures"].values()
    assert found["dice"] == pytest.approx(sum(s["dice"] for s in own) / len(own))
    assert found["hd95"] == pytest.approx(sum(s["hd95"] for s in own) / len(own))
    with open(many / "synthetic.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == sum(s["n"] for s in own)
    assert list(rows[0])[:3] == ["structure", "group", "image"]
    assert {row["group"] for row in rows} == {"p04", "p05"}


def test_images_without_masks_teach_and_patients_stay_on_one_side(swallows: Path, tmp_path: Path) -> None:
    more = {"unlabelled_dir": str(swallows.parent / "more" / "TrainDataset" / "images"), **two()}
    flow = workflow([TRAIN], **options(swallows, tmp_path, group="frames.csv:patient", **more))
    flow.initialize()
    train, validation = (flow.parser.get_parsed_content(key) for key in ("train_data", "val_data"))
    labelled = [item for item in train if "label" in item]
    assert len(train) - len(labelled) == 4
    assert not {item["group"] for item in labelled} & {item["group"] for item in validation}


def test_the_trained_bundle_of_many_structures_evaluates_and_infers_by_itself(
    many: Path, swallows: Path, tmp_path: Path
) -> None:
    bundle = many / "bundle"
    alone = partial(bundle_workflow, bundle / "configs")
    given = {"bundle_root": str(bundle), "device": "cpu", "output_dir": str(tmp_path)}
    config = [str(bundle / "configs" / "evaluate.yaml")]
    flow = alone(config, workflow_type="eval", run_id="evaluating", dataset_dir=str(swallows), **given)
    flow.initialize()
    flow.run()
    found = json.loads((tmp_path / "evaluation.json").read_text())["test_sets"]["synthetic"]
    expected = json.loads((many / "summary.json").read_text())["test_sets"]["synthetic"]
    assert found["missing"] == expected["missing"]
    readme = (bundle / "docs" / "README.md").read_text()
    for name, scores in expected["structures"].items():
        assert found["structures"][name] == same_scores(scores)
        assert f"| synthetic, {name} | {scores['n']} | {scores['dice']:.3f} |" in readme

    images = tmp_path / "images"
    bright = bright_corner(images)
    given["output_dir"] = str(tmp_path / "masks")
    flow = alone(
        [str(bundle / "configs" / "inference.yaml")], workflow_type="infer", dataset_dir=str(images), **given
    )
    flow.initialize()
    assert flow.check_properties() == []
    # a student that marks what is bright in one channel, so that the way back is visible
    flow.evaluator.network = _Bright()
    flow.run()
    written = {file.name: np.asarray(Image.open(file)) for file in (tmp_path / "masks").iterdir()}
    assert set(written) == {f"wide_{name}.png" for name in STRUCTURES}
    assert all(mask.shape == (50, 70) and mask.dtype == np.uint8 for mask in written.values())
    assert ((written["wide_hyoid.png"] == 1) == bright).mean() > 0.97
    assert not written["wide_bolus.png"].any()


class _Bright(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = torch.full((len(image), len(STRUCTURES), *image.shape[2:]), -9.0)
        logits[:, STRUCTURES.index("hyoid")] = image.mean(1) * 10
        return logits


def test_the_report_shows_weights_shares_cosines_and_likeness_of_every_teacher(many: Path) -> None:
    page = (many / "report.html").read_text()
    for part in (
        "Weight by the balancer",
        "Share of the distillation loss",
        "first and second",
        "CKA of student and teacher",
    ):
        assert part in page
    history = json.loads((many / "history.json").read_text())
    assert set(history[0]["balance"]) == {"first", "second"}
    assert sum(history[0]["share"].values()) == pytest.approx(1)


def test_the_zoo_finds_every_property(data: Path, teacher: Path, tmp_path: Path) -> None:
    flow = workflow([TRAIN], **options(data, tmp_path, teacher_weights=str(teacher)))
    flow.initialize()
    assert flow.check_properties() == []


def test_the_zoo_verifies_metadata_shapes_and_export(
    trained: Path, tmp_path: Path, shared_data: Path
) -> None:
    meta, config = str(CONFIGS / "metadata.json"), str(CONFIGS / "inference.yaml")
    verify_net_in_out("network_def", meta_file=meta, config_file=config)
    weights, target = str(trained / "models" / "model.pt"), tmp_path / "model.ts"
    files = {"meta_file": meta, "config_file": config, "ckpt_file": weights}
    ckpt_export("network_def", filepath=str(target), encoder=ENCODER, **files)
    student = LightSegmenter(2, 3, 1, encoder=ENCODER).eval()
    student.load_state_dict(load_state(weights))
    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(torch.jit.load(target)(image), student(image), atol=1e-4, rtol=1e-4)
    check_metadata(BUNDLE, shared_data.parent, tmp_path)


BALANCERS = [
    *((file.stem, {}) for file in sorted((ROOT / "configs" / "balancers").glob("*.yaml"))),
    ("mlp", {"objective#balancer#form": "published"}),
    ("attention", {"objective#balancer#form": "published"}),
    ("static", {"static_weights": {"first": 1.5, "second": 0.5}}),
]


@pytest.mark.parametrize(("name", "more"), BALANCERS, ids=lambda value: str(value))
def test_every_balancer_trains_and_its_weights_are_told_by_phase(
    name: str, more: dict, data: Path, tmp_path: Path
) -> None:
    overlay = str(ROOT / "configs" / "balancers" / f"{name}.yaml")
    given = options(data, tmp_path, limit=8, report=False, **two(), **more)
    phases = run([TRAIN, overlay], given)["balancer"]["phases"]
    assert [set(phase["balance"]) for phase in phases] == [{"first", "second"}, {"first", "second"}, set()]
    if name != "uncertainty":
        assert sum(phases[0]["balance"].values()) == pytest.approx(2)
    if name == "static" and more:
        assert phases[1]["balance"] == {"first": 1.5, "second": 0.5}
    state = load_state(tmp_path / "models" / "model.pt")
    assert set(state) == set(LightSegmenter(2, 3, 1, encoder=ENCODER).state_dict())


@pytest.mark.parametrize("name", ["light_repvit", "light_tinyvit", "light_efficientvit"])
def test_the_students_of_the_paper_come_by_overlay(
    name: str, data: Path, swallows: Path, tmp_path: Path
) -> None:
    files = [TRAIN, str(ROOT / "configs" / "students" / f"{name}.yaml")]
    flow = workflow(files, **options(data, tmp_path, **two()))
    flow.initialize()
    assert set(flow.trainer.distiller.term_taps.values()) == {"bottleneck"}
    assert flow.trainer.network(torch.zeros(2, 3, 64, 64)).shape == (2, 1, 64, 64)
    flow = workflow(files, **options(swallows, tmp_path, **two()))
    with pytest.raises(Exception, match="Failed to evaluate") as caught:
        flow.initialize()
    assert "--network_def#out_channels 12" in str(caught.value.__cause__)


def test_raw_targets_are_a_control(data: Path, tmp_path: Path) -> None:
    loud = two()
    loud["teachers"]["first"].network[2].weight.data.mul_(20)
    loud["teachers"]["second"].network[0].weight.data.mul_(0.05)
    given = options(data, tmp_path, limit=8, report=False, epochs=[1, 0, 0], **loud)
    raw = run([TRAIN, str(ROOT / "configs" / "targets" / "raw.yaml")], given)
    standardised = run([TRAIN], {**given, "overwrite": True})
    shares = [summary["balancer"]["phases"][0]["share"] for summary in (raw, standardised)]
    assert shares[0]["first"] > shares[1]["first"]


def test_finished_runs_teach_as_specialists_beside_other_teachers(
    trained: Path, data: Path, teacher: Path, tmp_path: Path
) -> None:
    overlay = str(ROOT / "configs" / "teachers" / "specialists.yaml")
    given = options(data, tmp_path, limit=8, report=False, teacher_weights=str(teacher), epochs=[1, 0, 0])
    summary = run([TRAIN, overlay], {**given, "specialists": {"polyp": str(trained / "bundle")}})
    assert summary["balancer"]["sources"] == {"imagenet": "imagenet/stride32", "polyp": "polyp/stride16"}


def test_specialists_label_the_images_of_their_own_task_for_one_student(
    swallows: Path, tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    for image in (swallows.parent / "more" / "TrainDataset" / "images").iterdir():
        shutil.copy(image, tmp_path / "images" / f"more_{image.name}")  # maps are found by their stem
    images = sorted((tmp_path / "images").iterdir())
    folders = {name: tmp_path / name for name in STRUCTURES[:2]}
    for n, image in enumerate(images):
        name = STRUCTURES[n % 2]  # one specialist an image
        folders[name].mkdir(exist_ok=True)
        with Image.open(image) as picture:
            shares = np.linspace(0, 255, picture.width).astype(np.uint8)
            Image.fromarray(np.tile(shares, (picture.height, 1))).save(folders[name] / f"{image.stem}.png")
    summary = run(
        [TRAIN, str(ROOT / "configs" / "recipes" / "soft_masks.yaml")],
        options(
            swallows,
            tmp_path / "run",
            group="frames.csv:patient",
            val_fraction=0.25,
            report=False,
            unlabelled=str(images[0].parent),
            soft_masks={name: str(folder) for name, folder in folders.items()},
        ),
    )
    assert summary["unlabelled"] == len(images)
    assert list(summary["teachers"]) == [f"{name}: {name}" for name in STRUCTURES[:2]]


def test_the_medical_set_gives_one_head_each_at_one_place(
    data: Path,
    local: Path,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    members = {"medsam": "stride16", "rad_dino": "stride14", "medclip": "stride32"}
    given: dict[str, Any] = {}
    for name in members:
        given.update({k: str(local / v) if isinstance(v, str) else v for k, v in LOCAL[name].items()})
    files = [TRAIN, str(ROOT / "configs" / "teachers" / "medical.yaml")]
    summary = run(files, options(data, tmp_path, limit=8, report=False, epochs=[1, 0, 0], **given))
    found = summary["balancer"]
    assert set(found["sources"]) == set(members)
    assert set(found["phases"][0]["gradient_cosine"]) == {
        "medsam|rad_dino",
        "medsam|medclip",
        "rad_dino|medclip",
    }


def test_a_phase_on_features_alone_leaves_its_last_student(data: Path, tmp_path: Path) -> None:
    summary = run([TRAIN], options(data, tmp_path, limit=8, report=False, epochs=[3, 0, 0], **two()))
    assert summary["best"] == {"best": None, "best_epoch": 3}


def test_the_encoder_alone_starts_a_student_of_the_polyp_bundle(
    trained: Path, data: Path, teacher: Path, tmp_path: Path
) -> None:
    file = tmp_path / "encoder.safetensors"
    export_encoder(load_state(trained / "models" / "model.pt"), file)
    polyp = ROOT / "bundles" / "polyp_difom"
    files = [
        str(polyp / "configs" / "train.yaml"),
        IMAGENET,
        str(ROOT / "configs/students/light_efficientvit.yaml"),
    ]
    given = options(
        data, tmp_path, teacher_weights=str(teacher), limit=8, report=False, bundle_root=str(polyp)
    )
    given.pop("encoder")
    student = {"network_def#encoder": ENCODER, "network_def#pretrained": str(file)}
    flow = bundle_workflow(polyp / "configs", files, **given, **student)
    flow.initialize()
    state, encoder = load_state(file), flow.trainer.network.encoder.state_dict()
    assert all(torch.equal(encoder[key], value) for key, value in state.items())
    flow.run()
    assert json.loads((tmp_path / "summary.json").read_text())["test_sets"]["synthetic"]["n"] == 5
    # what is passed on holds all its weights, and asks for no file of this machine
    assert "encoder.safetensors" not in (tmp_path / "bundle" / "configs" / "inference.yaml").read_text()


def _nan(maps: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value * float("nan") for name, value in maps.items()}


def _cropped(maps: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value[..., : value.shape[-1] // 2] for name, value in maps.items()}


def _failing(maps: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    raise OSError("the file is gone")


@pytest.mark.parametrize(
    ("spoil", "message"), [(_nan, "NaN"), (_cropped, "the grid should be"), (_failing, "the file is gone")]
)
def test_a_teacher_that_goes_wrong_stops_the_run_and_is_named(
    spoil: Any, message: str, data: Path, tmp_path: Path
) -> None:
    given = options(data, tmp_path, limit=8, report=False, **two())
    second = given["teachers"]["second"]
    right, calls = second.extract, []

    def wrong(image: torch.Tensor) -> dict[str, torch.Tensor]:
        calls.append(1)
        return right(image) if len(calls) < 6 else spoil(right(image))  # in the middle of the training

    second.extract = wrong
    flow = workflow([TRAIN], **given)
    flow.initialize()
    with pytest.raises(Exception, match=r"teacher 'second'|Failed to evaluate") as caught:
        flow.run()
    causes, error = [], caught.value
    while error is not None:
        causes.append(str(error))
        error = error.__cause__
    assert "teacher 'second'" in " ".join(causes)
    assert message in " ".join(causes)
    assert not (tmp_path / "summary.json").exists()


def test_the_features_are_stored_once_and_training_reads_them(data: Path, tmp_path: Path) -> None:
    given = options(data, tmp_path, limit=8, report=False, **two())
    given.update(feature_store=str(tmp_path / "store"), feature_views=2)
    flow = workflow([TRAIN], **{**given, "run_id": "features"})
    flow.initialize()
    flow.run()
    flow = workflow([TRAIN], **given)
    flow.initialize()
    for frozen in flow.trainer.targets.teachers.values():
        frozen.extract = None  # a teacher that is run fails
    flow.run()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["collapse"]) == {"first", "second"}


@pytest.mark.real_data
def test_the_command_on_real_polyps_trains_to_the_end(shared_data: Path, tmp_path: Path) -> None:
    weights = shared_data.parent / "weights" / "mobilenetv2_100_same_imagenet.safetensors"
    if not weights.is_file():
        pytest.skip(f"no teacher at {weights}")
    given = options(shared_data / "polyp", tmp_path, teacher_weights=str(weights), limit=8, report=False)
    sets = run([TRAIN, IMAGENET], {**given, "cache_rate": 0.0, "image_size": 96})["test_sets"]
    assert {name: scores["n"] for name, scores in sets.items()} == {"Kvasir": 100, "CVC-ClinicDB": 62}
