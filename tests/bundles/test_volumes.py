"""Volumes from NIfTI files to NIfTI masks: three phases in 3D, evaluated, resumed, and laid over the input in the body."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

from monai_difom.utils import load_state
from tests.bundles.commands import same_scores
from tests.volumes import AFFINES, CHANNELS, make_teacher_bundle, make_volume, make_volumes

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundles" / "polyp_difom"
VOLUMES = ROOT / "configs" / "volumes"
FILES = [
    str(BUNDLE / "configs" / "train.yaml"),
    *(str(ROOT / "configs" / f) for f in ("students/unet_3d.yaml", "teachers/volume_bundle.yaml")),
    str(ROOT / "configs" / "data" / "nifti_volumes.yaml"),
]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("volumes")
    return {
        "bundle_root": str(BUNDLE),
        "dataset_dir": str(make_volumes(folder / "data")),
        "teacher_bundle": str(make_teacher_bundle(folder / "teacher")),
        "network_def#network#channels": CHANNELS,
        "image_size": [32, 32, 16],
        "network_def#probe_size": [32, 32, 16],
        "pixdim": [1.2, 1.2, 2.0],
        "window": [-100, 200],
        "patches": 1,
        "batch_size": 2,
        "epochs": [1, 1, 1],
        "val_fraction": 0.2,
        "device": "cpu",
        "progress": False,
        "check_data": True,
    }


def workflow(files: list[str], options: dict[str, Any], out: Path, **changes: Any) -> ConfigWorkflow:
    places = {"output_dir": str(out), "ckpt_dir": str(out / "models")}
    found = ConfigWorkflow(
        files, logging_file=False, **{"workflow_type": "train", **options, **places, **changes}
    )
    found.initialize()
    return found


@pytest.fixture(scope="module")
def trained(options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "volumes"
    workflow(FILES, options, out).run()
    return out


def test_three_phases_train_a_3d_student_on_windows_of_nifti_volumes(trained: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    assert [phase["name"] for phase in summary["phases"]] == ["align", "distil", "refine"]
    assert summary["phases"][0]["weights"] == {"segmentation": 1.0, "bottleneck": 1.5, "stride8": 1.5}
    assert set(summary["collapse"]) == {"bottleneck", "stride8"}
    assert summary["student"]["network"] == "UNet"
    assert set(summary["teachers"]) == {"volume"}
    assert (trained / "pictures" / "001_align.png").is_file()
    assert (trained / "report.html").is_file()
    assert "data:image/jpeg" in (trained / "report.html").read_text()
    scores = summary["test_sets"]["test"]
    assert 0 <= scores["iou"] <= scores["dice"] <= 1
    with open(trained / "test.csv") as stream:
        (row,) = csv.DictReader(stream)
    assert {"hd95", "nsd", "foreground", "spacing_3"} <= set(row)
    volume = nibabel.load(row["image"])
    assert [float(row[f"spacing_{axis}"]) for axis in (1, 2, 3)] == pytest.approx(
        volume.header.get_zooms(), abs=1e-4
    )


def test_another_3d_network_is_a_student_too(options: dict[str, Any], tmp_path: Path) -> None:
    own = {key: value for key, value in options.items() if not key.startswith("network_def#")}
    own |= {"image_size": [32, 32, 32], "epochs": [1, 0, 0], "limit": 2, "report": False}
    segresnet = [file.replace("unet_3d", "segresnet_3d") for file in FILES]
    flow = workflow(segresnet, own, tmp_path)
    flow.run()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["student"]["network"] == "SegResNet"
    assert set(summary["collapse"]) == {"bottleneck", "stride8"}


def test_a_resumed_run_ends_with_the_weights_of_one_that_was_not_stopped(
    trained: Path, options: dict[str, Any], tmp_path: Path
) -> None:
    stopped = workflow(FILES, options, tmp_path)

    def stop(engine: Any) -> None:
        if engine.state.iteration == 2 * engine.state.epoch_length + 1:
            raise KeyboardInterrupt

    stopped.trainer.add_event_handler(Events.ITERATION_COMPLETED, stop)
    with pytest.raises(KeyboardInterrupt):
        stopped.trainer.run()
    resumed = workflow(FILES, options, tmp_path, resume=str(tmp_path))
    resumed.trainer.run()
    whole, found = (load_state(folder / "models" / "last.pt")["distiller"] for folder in (trained, tmp_path))
    assert all(torch.equal(whole[key], found[key]) for key in whole)


def test_the_trained_bundle_scores_volumes_like_the_training(
    trained: Path, options: dict[str, Any], tmp_path: Path
) -> None:
    bundle = trained / "bundle"
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    assert len(metadata["network_data_format"]["inputs"]["image"]["spatial_shape"]) == 3
    flow = ConfigWorkflow(
        str(bundle / "configs" / "evaluate.yaml"),
        workflow_type="eval",
        run_id="evaluating",
        logging_file=False,
        bundle_root=str(bundle),
        dataset_dir=options["dataset_dir"],
        output_dir=str(tmp_path),
        device="cpu",
    )
    flow.initialize()
    flow.run()
    found = json.loads((tmp_path / "evaluation.json").read_text())
    expected = json.loads((trained / "summary.json").read_text())["test_sets"]["test"]
    assert found["test_sets"]["test"] == same_scores(expected)
    assert found["settings"]["unit"] == "mm"


def test_a_trained_bundle_labels_volumes_for_a_student_of_the_soft_masks_recipe(
    trained: Path, options: dict[str, Any], tmp_path: Path
) -> None:
    given = {**options, "teacher_bundle": str(trained / "bundle"), "limit": 2, "label_views": 1}
    files = [*FILES, str(ROOT / "configs" / "recipes" / "soft_masks.yaml")]
    flow = workflow(files, {**given, "report": False}, tmp_path)
    labels: list[str] = []
    read = nibabel.load

    def noted(path: Any, *args: Any, **keywords: Any) -> Any:
        labels.append(Path(path).as_posix())
        return read(path, *args, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nibabel.load", noted)
        flow.run()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["recipe"] == "soft_masks"
    assert (summary["labelled"], summary["unlabelled"]) == (2, 2)
    assert 0 <= summary["test_sets"]["test"]["dice"] <= 1
    index = json.loads((tmp_path / "soft_masks" / "soft_masks.json").read_text())
    assert list(index["teachers"]) == ["bundle"]
    assert len(index["entries"]) == 4
    unlabelled = flow.parser.get_parsed_content("unlabelled_data")
    drawn = [str(item["image"]).replace("/images/", "/masks/") for item in unlabelled]
    assert labels
    assert not set(drawn) & set(labels)
    state = load_state(tmp_path / "models" / "model.pt")
    assert not any("teacher" in key for key in state)


class Bright(torch.nn.Module):
    """A student that marks what is bright, so that the way back is visible."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return 20 * (image - 0.1)


@pytest.mark.parametrize("kind", AFFINES)
def test_a_saved_mask_lies_over_its_volume_whatever_the_orientation(
    kind: str, trained: Path, tmp_path: Path
) -> None:
    truth = make_volume(tmp_path / "data", "case", AFFINES[kind], seed=4) > 0
    flow = ConfigWorkflow(
        str(trained / "bundle" / "configs" / "inference.yaml"),
        workflow_type="infer",
        logging_file=False,
        bundle_root=str(trained / "bundle"),
        dataset_dir=str(tmp_path / "data" / "images"),
        output_dir=str(tmp_path / "masks"),
        device="cpu",
    )
    flow.initialize()
    assert flow.check_properties() == []
    flow.evaluator.network = Bright()
    flow.run()
    image = nibabel.load(tmp_path / "data" / "images" / "case.nii.gz")
    mask = nibabel.load(tmp_path / "masks" / "case_mask.nii.gz")
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
    found = np.asarray(mask.dataobj)
    assert found.dtype == np.uint8
    assert found.shape == truth.shape
    assert set(np.unique(found)) == {0, 1}
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9


def test_the_features_of_volumes_are_stored_and_read(options: dict[str, Any], tmp_path: Path) -> None:
    given = {**options, "feature_store": str(tmp_path / "store"), "feature_views": 2, "limit": 3}
    builder = workflow(FILES, given, tmp_path, run_id="features")
    builder.run()
    found = builder.parser.get_parsed_content("feature_builder").verify(samples=4)
    assert found["ok"], found
    flow = workflow(FILES, given, tmp_path)
    for teacher in flow.trainer.targets.teachers.values():
        teacher.extract = None  # a teacher that is run fails
    flow.trainer.run()


def test_a_mask_that_lies_elsewhere_in_the_body_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(options["dataset_dir"], tmp_path / "data")
    file = tmp_path / "data" / "masks" / "case_1.nii.gz"
    moved = nibabel.load(file)
    nibabel.save(nibabel.Nifti1Image(np.asarray(moved.dataobj), moved.affine + np.eye(4, k=3) * 5), file)
    with pytest.raises(Exception, match="Failed to evaluate") as caught:
        workflow(FILES, {**options, "dataset_dir": str(tmp_path / "data")}, tmp_path)
    root: BaseException = caught.value
    while root.__cause__ is not None:
        root = root.__cause__
    assert "case_1.nii.gz" in str(root)
    assert "5.00 mm apart" in str(root)
