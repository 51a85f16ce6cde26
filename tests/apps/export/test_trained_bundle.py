"""A finished run becomes a bundle that stands alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser, verify_metadata, verify_net_in_out
from PIL import Image

from monai_difom.apps import check_bundle, running_settings, write_trained_bundle
from monai_difom.apps.deployed.facts import read_deployment
from monai_difom.apps.export.trained_bundle import public_source, with_settings
from monai_difom.apps.runs.identity import RunIdentity
from monai_difom.data import make_polyps
from monai_difom.networks.nets import DifomUNet
from monai_difom.utils import load_state, save_state

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "bundles" / "polyp_difom"
NETWORK = {
    "_target_": "monai_difom.networks.nets.DifomUNet",
    "spatial_dims": 2,
    "in_channels": 3,
    "out_channels": 1,
    "features": [4, 6, 8],
}
SUMMARY = {
    "teachers": {
        "dinov2": {"source": "/home/me/dinov2-base", "licence": "Apache-2.0", "signature": "ab" * 32},
        "own": {
            "source": "timm resnet50",
            "licence": "see the source of the weights",
            "signature": "cd" * 32,
        },
    },
    "test_sets": {"ETIS": {"n": 196, "dice": 0.7123, "iou": 0.6, "hd95": 12.0}},
}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_state(tmp_path / "model.pt", DifomUNet(2, 3, 1, [4, 6, 8]).state_dict())
    return tmp_path / "model.pt"


def write(folder: Path, weights: Path, **changes: Any) -> Path:
    settings = {"network_def": NETWORK, "image_size": 32, "mask_threshold": None, "nowhere": 1}
    arguments = {"source": SOURCE, "weights": weights, "settings": settings, "summary": SUMMARY, **changes}
    return write_trained_bundle(folder, **arguments)


def test_it_is_complete_and_verified_by_monai(weights: Path, tmp_path: Path, shared_data: Path) -> None:
    bundle = write(tmp_path / "bundle", weights)
    files = {str(file.relative_to(bundle)) for file in bundle.rglob("*") if file.is_file()}
    assert files == {
        "LICENSE",
        "configs/evaluate.yaml",
        "configs/inference.yaml",
        "configs/logging.conf",
        "configs/metadata.json",
        "docs/README.md",
        "models/model.pt",
    }
    schema = tmp_path / "schema.json"
    schema.write_bytes((shared_data.parent / "schema" / "meta_schema_20240725.json").read_bytes())
    verify_metadata(meta_file=str(bundle / "configs/metadata.json"), filepath=str(schema))
    verify_net_in_out(
        "network_def",
        meta_file=str(bundle / "configs/metadata.json"),
        config_file=str(bundle / "configs/inference.yaml"),
    )


def test_teachers_and_scores_are_in_the_metadata_and_in_the_documentation(
    weights: Path, tmp_path: Path
) -> None:
    bundle = write(tmp_path / "bundle", weights)
    metadata = json.loads((bundle / "configs/metadata.json").read_text())
    assert metadata["teachers"] == [
        {"name": "dinov2", "source": "facebook/dinov2-base", "licence": "Apache-2.0", "signature": "ab" * 32},
        {"name": "own", **SUMMARY["teachers"]["own"]},
    ]
    assert metadata["eval_metrics"] == {"ETIS_dice": 0.7123, "ETIS_iou": 0.6}
    readme = (bundle / "docs/README.md").read_text()
    assert "| dinov2 | facebook/dinov2-base | Apache-2.0 | abababababab |" in readme
    assert "| ETIS | 196 | 0.712 | 0.600 | 12.0 |" in readme
    assert "train.yaml" not in readme
    assert readme.index("## Teachers and licences") < readme.index("## License")
    assert "/home/me" not in "".join(
        file.read_text() for file in bundle.rglob("*.[jmy]*") if file.suffix != ".pt"
    )


def texts(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): file.read_text()
        for file in folder.rglob("*")
        if file.is_file() and file.suffix != ".pt" and file.name != "LICENSE"
    }


@pytest.mark.parametrize("name", sorted(folder.name for folder in (ROOT / "bundles").iterdir()))
def test_a_bundle_is_about_what_its_run_was_about_and_not_about_its_method_s_own_task(
    name: str, weights: Path, tmp_path: Path
) -> None:
    about = {"structure": "nucleus", "modality": "microscopy", "task": None, "dataset_dir": "/data/DSB2018"}
    settings = {"network_def": NETWORK, "image_size": 32, "mask_threshold": None, **about}
    bundle = write(tmp_path / "bundle", weights, settings=settings, source=ROOT / "bundles" / name)
    for file, text in texts(bundle).items():
        assert not re.search(r"polyp|colonosc|endoscop|kvasir", text, re.IGNORECASE), file
    metadata = json.loads((bundle / "configs/metadata.json").read_text())
    assert metadata["task"] == "Segmentation of nucleus in microscopy images"
    assert metadata["data_source"] == "DSB2018"
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == {"0": "nucleus"}
    assert metadata["network_data_format"]["inputs"]["image"]["modality"] == "microscopy"
    assert read_deployment(bundle).structures == ("nucleus",)
    assert "# Segmentation of nucleus in microscopy images" in (bundle / "docs/README.md").read_text()


@pytest.mark.parametrize(
    ("settings", "task", "structures"),
    [
        ({}, "Segmentation of images", ("foreground",)),
        ({"structure": "$f()", "modality": "@x"}, "Segmentation of images", ("foreground",)),
        ({"structure": "$'a\\x23'"}, "Segmentation of a#", ("a#",)),
        ({"modality": "CT"}, "Segmentation of CT images", ("foreground",)),
        ({"structure": "liver", "modality": "CT"}, "Segmentation of liver in CT images", ("liver",)),
        ({"structures": ["a", "b"], "structure": "c"}, "Segmentation of a, b", ("a", "b")),
        ({"structure": "x", "network_def": {"out_channels": 2}}, "Segmentation of x 1, x 2", ("x 1", "x 2")),
        ({"task": "Find it", "structure": "x"}, "Find it", ("x",)),
    ],
)
def test_what_was_not_said_is_neutral(settings: dict, task: str, structures: tuple[str, ...]) -> None:
    found = RunIdentity.of(settings)
    assert (found.task, found.structures) == (task, structures)


@pytest.mark.parametrize("name", ["oral ulcer", "a: b", "{x}", "it's", 'a "b"', "x # y", "\\1"])
def test_a_structure_may_be_called_anything(name: str, weights: Path, tmp_path: Path) -> None:
    settings = {"network_def": NETWORK, "image_size": 32, "mask_threshold": None, "structure": name}
    bundle = write(tmp_path / "bundle", weights, settings=settings)
    config = yaml.safe_load((bundle / "configs/inference.yaml").read_text())
    labels = [t["labels"] for t in config["postprocessing"]["transforms"] if "labels" in t]
    assert labels == [{name: 1}]
    assert read_deployment(bundle).structures == (name,)


def test_an_undistilled_run_lists_no_teacher(weights: Path, tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle", weights, summary={"teachers": {}, "test_sets": {}})
    assert json.loads((bundle / "configs/metadata.json").read_text())["teachers"] == []
    assert "No teacher was used" in (bundle / "docs/README.md").read_text()


def test_its_commands_run_anywhere_without_the_source(weights: Path, tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle", weights)
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "images" / "a.png")
    moved = tmp_path / "elsewhere"
    shutil.move(bundle, moved)
    config = moved / "configs" / "inference.yaml"
    words = ["run", "--bundle_root", str(moved), "--config_file", str(config)]
    words += ["--dataset_dir", str(tmp_path / "images"), "--output_dir", str(tmp_path / "masks")]
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", *words],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "masks" / "a_mask.png") as mask:
        assert mask.size == (70, 50)


def test_evaluate_takes_the_network_and_the_size_that_were_trained(weights: Path, tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle", weights)
    make_polyps(tmp_path / "data", train=2, test=2, size=48)
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs/evaluate.yaml"))
    parser.update({"bundle_root": str(bundle), "dataset_dir": str(tmp_path / "data"), "device": "cpu"})
    parser["output_dir"] = str(tmp_path / "scores")
    parser.get_parsed_content("evaluating")
    assert json.loads((tmp_path / "scores/evaluation.json").read_text())["test_sets"]["synthetic"]["n"] == 2
    assert (parser["image_size"], parser["network_def"]) == (32, NETWORK)


@pytest.mark.parametrize("name", ["inference.yaml", "evaluate.yaml"])
def test_a_configuration_opens_with_what_it_is_for_and_its_command_and_keeps_its_comments(
    name: str, weights: Path, tmp_path: Path
) -> None:
    text = (write(tmp_path / "bundle", weights) / "configs" / name).read_text()
    head = text.split("imports:")[0]
    assert head.splitlines()[0] == (SOURCE / "configs" / name).read_text().splitlines()[0]
    assert f"--config_file configs/{name}" in head
    assert "overlay" not in text
    assert text.count("#") > 5
    assert "nowhere" not in yaml.safe_load(text)


def test_side_latents_of_the_training_are_not_in_the_deployed_network(weights: Path, tmp_path: Path) -> None:
    settings = {"network_def": {**NETWORK, "latents": "side"}, "image_size": 32}
    bundle = write(tmp_path / "bundle", weights, settings=settings)
    assert yaml.safe_load((bundle / "configs/inference.yaml").read_text())["network_def"]["latents"] == "none"


def test_weights_that_do_not_fit_are_refused_and_nothing_is_left(weights: Path, tmp_path: Path) -> None:
    settings = {"network_def": {**NETWORK, "features": [4, 6, 8, 8]}}
    with pytest.raises(
        ValueError, match=r"model.pt does not fit DifomUNet: .*wrong shapes .*network_def is not"
    ):
        write(tmp_path / "out" / "bundle", weights, settings=settings)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_older_bundle_is_replaced_and_anything_else_is_kept(weights: Path, tmp_path: Path) -> None:
    bundle = write(tmp_path / "bundle", weights)
    (bundle / "stale").touch()
    write(tmp_path / "bundle", weights)
    assert not (bundle / "stale").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(ValueError, match="holds something that is no bundle"):
        write(tmp_path / "mine", weights)
    assert (tmp_path / "mine" / "thesis.txt").exists()
    assert load_state(bundle / "models/model.pt").keys() == load_state(weights).keys()


def test_a_folder_that_is_no_bundle_is_refused_before_the_training(tmp_path: Path) -> None:
    check_bundle(SOURCE)
    with pytest.raises(
        ValueError, match=r"lacks configs/inference.yaml, .*--bundle_root bundles/polyp_difom"
    ):
        check_bundle(tmp_path)


def test_settings_replace_whole_blocks_and_leave_the_rest() -> None:
    text = "a: 1   # one\nb:\n  c: [1,\n    2]\n  d: 3\n\ne: 4   # four\n"
    found = with_settings(text, {"a": 5, "b": {"x": [1, 2]}, "z": 0})
    assert yaml.safe_load(found) == {"a": 5, "b": {"x": [1, 2]}, "e": 4}
    assert found.endswith("\ne: 4   # four\n")


@pytest.mark.parametrize(
    "old",
    [
        "b:\n  c: 1\n# why d is two\n  d: 2\n",
        "b:\n  c: 1\n\n\n  d: 2\n",
        "b:\n  c: 1\n# one\n\n# two\n  d:\n# three\n  - 2\n  # the end of b\n",
        "b:\n- c\n\n# more\n- d\n",
        "b: {c: 1,\nd: 2\n}\n",
        "b: [1,\n\n2]\n",
        "'b':\n  c: |\n    text\n\n    more text\n  d: 2\n",
        "b  : 1\n",
        "b:\n",
    ],
)
def test_the_whole_of_a_block_is_replaced_however_it_is_written(old: str) -> None:
    after = "\n# what e is\n# good for\ne: 4   # four\n"
    found = with_settings(f"a: 1\n{old}{after}", {"b": {"x": [1, 2]}})
    assert found == f"a: 1\nb:\n  x:\n  - 1\n  - 2\n{after}"


def test_a_source_is_told_without_the_folders_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "mine.pt").touch()
    assert public_source(str(tmp_path / "mine.pt")) == "mine.pt"
    assert public_source("/data/sam_vit_b_01ec64.pth") == "sam_vit_b_01ec64.pth"
    assert public_source("someone/model") == "someone/model"


def _parser(**config: Any) -> ConfigParser:
    return ConfigParser({"imports": ["$import monai_difom", "$import torch"], **config})


def test_an_expression_gets_definitions_with_their_references_resolved() -> None:
    network = {
        "_target_": "torch.nn.Conv2d",
        "in_channels": "@c",
        "out_channels": "$2 * @c",
        "kernel_size": "%k",
    }
    parser = _parser(c=3, k=5, net=network, out="$monai_difom.apps.running_settings('net', 'missing')")
    parser.parse()
    found = parser.get_parsed_content("out")
    expected = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 6, "kernel_size": 5}
    assert found == {"net": expected}
    assert isinstance(parser.get_parsed_content("net"), torch.nn.Conv2d)


def test_an_expression_without_references_stays_text_and_an_object_is_refused() -> None:
    parser = _parser(net={"act": "$torch.nn.ReLU"}, out="$monai_difom.apps.running_settings('net')")
    assert parser.get_parsed_content("out") == {"net": {"act": "$torch.nn.ReLU"}}
    parser = _parser(a="$torch.nn.ReLU()", net={"act": "@a"}, out="$monai_difom.apps.running_settings('net')")
    with pytest.raises(RuntimeError) as refused:
        parser.get_parsed_content("out")
    assert "net::act is '@a', a ReLU" in str(refused.value.__cause__)


def test_outside_a_configuration_there_are_no_running_settings() -> None:
    with pytest.raises(RuntimeError, match="no configuration is being run"):
        running_settings("network_def")
