"""An exported bundle learns from labels as MONAI Label's stock app makes it: the same overrides, in this process."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from monai.bundle import ConfigParser, ConfigWorkflow
from PIL import Image
from safetensors.torch import save_file

from monai_difom.apps.export.deployable import export_bundle
from monai_difom.apps.export.training_config import training_config
from monai_difom.utils import file_digest, save_state
from tests.apps.deployed.students import OWN_NETWORK, SIZE, blob, learn, write_run
from tests.bundles.commands import first_cause

ROOT = Path(__file__).parents[3]
OVERLAY = ROOT / "configs" / "label" / "train.yaml"
Trained = dict[str, Any]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle exported for MONAI Label, from a run with a teacher whose weight file lies beside it."""
    folder = tmp_path_factory.mktemp("label")
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv2_100", pretrained=False, pad_type="same", features_only=True)
    save_file(network.state_dict(), str(folder / "teacher.safetensors"))
    weights = learn(OWN_NETWORK, folder / "model.pt", steps=12)
    run = write_run(folder / "run", OWN_NETWORK, weights)
    config = ConfigParser.load_config_file(ROOT / "bundles" / "polyp_difom" / "configs" / "train.yaml")
    config.update(
        network_def=OWN_NETWORK,
        dataset_dir=str(run / "data"),
        output_dir=str(run),
        teacher_weights=str(folder / "teacher.safetensors"),
        image_size=SIZE,
        batch_size=4,
        device="cpu",
    )
    # a student of three levels: its coarsest grid of 8 x 8 is that of stride 4
    config["terms"][1]["tap"] = "stride2"
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    export_bundle(run, folder / "exported", ["bundle"], training=OVERLAY)
    return folder / "exported"


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    """A copy that a test may train."""
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


def labels(
    folder: Path, number: int, change: Callable[[np.ndarray], np.ndarray] | None = None
) -> list[dict[str, str]]:
    """Images with the masks that a person drew, 0 and 1, as the server's datastore lists them."""
    (folder / "labels" / "final").mkdir(parents=True)
    items = []
    for i in range(number):
        picture, mask = blob(50 + i)
        mask = mask if change is None else change(mask)
        item = {"image": folder / f"{i}.png", "label": folder / "labels" / "final" / f"{i}.png"}
        Image.fromarray(picture).save(item["image"])
        Image.fromarray(mask.astype(np.uint8)).save(item["label"])
        items.append({key: str(path) for key, path in item.items()})
    return items


def workflow(
    bundle: Path, train: list, validation: list | None, run_id: str = "run", epochs: int = 3, **more: Any
) -> ConfigWorkflow:
    """What monailabel/tasks/train/bundle.py makes of a request."""
    file = str(bundle / "configs" / "train.yaml")
    handlers = ConfigParser.load_config_file(file)["train"]["handlers"]
    loader = {
        "_target_": "CheckpointLoader",
        "load_path": str(bundle / "models" / "model.pt"),
        "strict": False,
    }
    overrides: dict[str, Any] = {
        "bundle_root": str(bundle),
        "train#trainer#max_epochs": epochs,
        "train#dataset#data": train,
        "train#handlers": [{**loader, "load_dict": {"model": "$@network"}}, *handlers],
        "device": "cpu",
        **more,
    }
    if validation is not None:
        overrides["validate#dataset#data"] = validation
    return ConfigWorkflow(
        file,
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="train",
        run_id=run_id,
        **overrides,
    )


def train(*given: Any, **more: Any) -> Trained:
    """Train as the app does, and return what it left."""
    flow = workflow(*given, **more)
    flow.initialize()
    flow.run()
    flow.finalize()
    return json.loads((given[0] / "label" / "label.json").read_text())


def test_all_phases_distil_from_the_teacher_and_the_better_student_is_served(
    bundle: Path, tmp_path: Path
) -> None:
    items, before = labels(tmp_path / "images", 10), file_digest(bundle / "models/model.pt")
    told = train(bundle, items[:8], items[8:], epochs=10)
    assert told["teachers"] == ["imagenet"]
    assert told["without"] is None
    assert told["phases"] == {"align": 2, "distil": 5, "refine": 3}
    assert told["dice"]["after"] > told["dice"]["before"]
    assert told["installed"]
    assert file_digest(bundle / "models/model_before.pt") == before
    metadata = json.loads((bundle / "configs/metadata.json").read_text())
    assert metadata["formats"]["bundle"]["sha256"] == file_digest(bundle / "models/model.pt") != before
    assert metadata["trained_on_labels"] == [{key: told[key] for key in told if key != "without"}]
    assert {file.name for file in (bundle / "models").iterdir()} == {"model.pt", "model_before.pt"}
    again = train(bundle, items[:8], items[8:], "refine", epochs=1)
    assert (
        again["dice"]["before"] == told["dice"]["after"]
    )  # what was trained is what the next training starts from


def test_without_its_teacher_every_phase_is_trained_on_masks_alone(bundle: Path, tmp_path: Path) -> None:
    items = labels(tmp_path / "images", 5)
    told = train(bundle, items[:4], items[4:], teacher_weights=str(tmp_path / "gone.safetensors"))
    assert told["teachers"] == []
    assert "gone.safetensors" in told["without"]
    assert sum(told["phases"].values()) == 3


@pytest.mark.parametrize(("run_id", "teachers"), [("refine", []), ("align", ["imagenet"])])
def test_a_run_id_runs_one_phase_for_all_the_epochs(
    bundle: Path, tmp_path: Path, run_id: str, teachers: list[str]
) -> None:
    told = train(bundle, labels(tmp_path / "images", 3), [], run_id, epochs=2)
    assert told["phases"] == {run_id: 2}
    assert told["teachers"] == teachers
    assert (told["labels"], told["validation"]) == (3, 0)


def test_an_empty_run_id_and_no_validation_of_the_servers_train_all_phases_once(
    bundle: Path, tmp_path: Path
) -> None:
    told = train(bundle, labels(tmp_path / "images", 2), None, run_id="", epochs=3)
    assert list(told["phases"]) == ["align", "distil", "refine"]


def test_a_student_that_got_worse_is_not_served(bundle: Path, tmp_path: Path) -> None:
    wrong, right = labels(tmp_path / "wrong", 4, np.zeros_like), labels(tmp_path / "right", 2)
    before = file_digest(learn(OWN_NETWORK, bundle / "models/model.pt", steps=80))
    told = train(bundle, wrong, right, "refine", epochs=1, learning_rate=0.5, batch_size=1)
    assert told["dice"]["after"] < told["dice"]["before"]
    assert not told["installed"]
    assert file_digest(bundle / "models/model.pt") == before
    assert not (bundle / "models/model_before.pt").exists()


def test_what_cannot_be_trained_is_refused_in_plain_words(bundle: Path, tmp_path: Path) -> None:
    items = labels(tmp_path / "images", 2)
    with pytest.raises(Exception, match="train_on_labels") as error:
        train(bundle, [], [])
    assert first_cause(error.value).startswith("there are no labels to learn from")
    only_features = [
        {"_target_": "monai_difom.engines.Phase", "name": "align", "epochs": 2, "weights": {"stride8": 1.0}}
    ]
    with pytest.raises(Exception, match="train_on_labels") as error:
        train(
            bundle,
            items,
            [],
            "align",
            phases=only_features,
            epochs=1,
            teacher_weights="gone",
            **{"plan#epochs": None},
        )
    assert "nothing is left to learn without the teachers" in first_cause(error.value)


def test_weights_that_are_not_the_students_are_named_and_no_stage_of_another_system(
    bundle: Path, tmp_path: Path
) -> None:
    weights, items = bundle / "models" / "model.pt", labels(tmp_path / "images", 2)
    for change, message in (
        (
            lambda: save_state(weights, {"other": torch.zeros(1)}),
            r"model\.pt does not fit DifomUNet.*as it was exported",
        ),
        (weights.unlink, r"models/model\.pt"),
    ):
        change()
        with pytest.raises(RuntimeError) as refused:
            train(bundle, items, [])
        assert re.search(message, first_cause(refused.value))
        assert "distil" not in first_cause(refused.value)


def test_the_configuration_holds_what_labels_need_and_nothing_of_the_runs_data(
    exported: Path, tmp_path: Path
) -> None:
    file = exported / "configs" / "train.yaml"
    config = ConfigParser.load_config_file(file)
    assert {"run", "training", "align", "distil", "refine", "network_def", "teachers"} <= set(config)
    assert not {"test_sets", "train_validation", "features", "feature_builder", "report", "deployed"} & set(
        config
    )
    assert str(exported.parent / "run") not in file.read_text()
    assert file.read_text().startswith("# ")
    assert "MONAI Label trains" in (exported / "docs" / "README.md").read_text()
    assert "monai_difom" in (exported / "docs" / "README.md").read_text()
    items = labels(tmp_path / "images", 2)
    flow = workflow(exported, items, items)
    flow.initialize()
    assert flow.check_properties() == []  # MONAI's model zoo asks this of a training


def test_an_exported_bundle_that_is_exported_again_can_still_be_trained(
    exported: Path, tmp_path: Path
) -> None:
    Image.fromarray(blob(0)[0]).save(tmp_path / "a.png")
    export_bundle(exported, tmp_path / "again", ["bundle"], images=tmp_path / "a.png")
    assert (tmp_path / "again/configs/train.yaml").read_text() == (
        exported / "configs/train.yaml"
    ).read_text()


def test_what_labels_cannot_train_is_not_exported_for_it(exported: Path, tmp_path: Path) -> None:
    run, image = exported.parent / "run", tmp_path / "a.png"
    Image.fromarray(blob(0)[0]).save(image)
    with pytest.raises(ValueError, match="goes into the bundle of a run"):
        export_bundle(run / "bundle", tmp_path / "out", ["torchscript"], images=image, training=OVERLAY)
    with pytest.raises(FileNotFoundError, match=r"no .*nowhere\.yaml"):
        export_bundle(run, tmp_path / "out", ["bundle"], images=image, training=tmp_path / "nowhere.yaml")
    part = tmp_path / "run"
    part.mkdir()
    (part / "config.yaml").write_text("phases: [{name: a}]\nnetwork_def: {}\n")
    with pytest.raises(
        ValueError,
        match=r"has no .*teachers, terms, plan, train, .* is for runs of bundles/polyp_difom",
    ):
        training_config(part, OVERLAY)
