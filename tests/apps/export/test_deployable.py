"""What is exported computes what was trained, and runs where this package is not installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from PIL import Image

from monai_difom.__main__ import main
from monai_difom.apps.deployed.facts import Deployment, read_deployment
from monai_difom.apps.deployed.runners import open_runner
from monai_difom.apps.export import writers
from monai_difom.apps.export.deployable import export_bundle, packages_of
from monai_difom.apps.export.formats import FORMATS, Tolerance
from monai_difom.apps.export.parity import measure_parity, parity_failures
from monai_difom.apps.predict.sources import read_picture
from monai_difom.utils import load_state, save_state
from tests.apps.deployed.students import (
    MONAI_NETWORK,
    OWN_NETWORK,
    SIZE,
    blob,
    learn,
    write_pictures,
    write_run,
)

MODELS = ("model.pt", "model.ts", "model.onnx", "model_fp16.xml", "model_int8.xml")
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ImportError(f"{{name}} is blocked")
sys.meta_path.insert(0, Blocked())
"""

pytestmark = pytest.mark.xdist_group("exported")


def run_without(names: set[str], code: str, folder: Path) -> None:
    """Run code in a process that cannot import some packages."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(names=names) + code],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_format_is_there_and_was_compared_on_the_test_images(exported: Path) -> None:
    assert {path.name for path in (exported / "models").iterdir()} == {
        *MODELS,
        "model_fp16.bin",
        "model_int8.bin",
    }
    parity = json.loads((exported / "parity.json").read_text())
    assert list(parity) == ["bundle", "torchscript", "onnx", "openvino", "openvino-int8"]
    assert all(figures["pictures"] == 3 for figures in parity.values())
    assert parity["onnx"]["max"] < 1e-5
    assert parity["openvino-int8"]["max"] > 0
    assert not list(exported.parent.glob(".*"))  # nothing half-written


def test_the_facts_travel_in_every_file_and_any_batch_size_is_taken(exported: Path) -> None:
    pictures = [blob(i)[0] for i in range(3)]
    facts = Deployment((SIZE, SIZE), structures=("polyp",))
    batch = np.concatenate([facts.prepare(picture) for picture in pictures])
    for name in MODELS:
        runner = open_runner(exported / "models" / name)
        assert runner.facts == facts, name
        single = np.concatenate([runner.logits(image[None]) for image in batch])
        np.testing.assert_allclose(runner.logits(batch), single, atol=1e-4 if "int8" not in name else 0.2)


def test_a_monai_network_runs_without_this_package_and_gives_the_same_mask(
    exported: Path, tmp_path: Path
) -> None:
    assert "monai_difom" not in (exported / "configs" / "inference.yaml").read_text()
    write_pictures(tmp_path / "images", 2, 50, 70)
    words = ["run", "--bundle_root", str(exported), "--dataset_dir", str(tmp_path / "images")]
    words += [
        "--config_file",
        str(exported / "configs/inference.yaml"),
        "--output_dir",
        str(tmp_path / "masks"),
    ]
    code = f"import runpy; sys.argv = ['monai.bundle', *{words}]; runpy.run_module('monai.bundle', run_name='__main__')"
    run_without({"monai_difom"}, code, tmp_path)
    runner = open_runner(exported)
    for name in ("0", "1"):
        found = np.asarray(Image.open(tmp_path / "masks" / f"{name}_mask.png"))
        expected = runner.facts.masks(
            runner.probabilities(read_picture(tmp_path / "images" / f"{name}.png"))
        )[0]
        assert found.shape == (50, 70)
        assert found.any()
        assert (found == expected).mean() > 0.999


def test_the_code_in_the_model_card_runs_with_the_runtime_alone(exported: Path, tmp_path: Path) -> None:
    text = (exported / "docs" / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    picture = blob(1, SIZE, SIZE)[0]
    Image.fromarray(picture).save(tmp_path / "image.png")
    (tmp_path / "models").symlink_to(exported / "models")
    end = "np.save('{}.npy', probability)\n"
    torch_code = next(block for block in blocks if "import torch" in block)
    others = [block + end.format(i) for i, block in enumerate(b for b in blocks if b is not torch_code)]
    run_without({"monai", "monai_difom"}, torch_code + end.format("torch"), tmp_path)
    run_without({"monai", "monai_difom", "torch"}, "".join(others), tmp_path)
    expected = open_runner(exported).probabilities(picture)
    for name in ("torch", "0", "1"):
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy")[0], expected, atol=0.02)


def test_metadata_and_model_card_say_what_it_is(exported: Path) -> None:
    metadata = json.loads((exported / "configs" / "metadata.json").read_text())
    assert metadata["pytorch_version"] == torch.__version__.split("+")[0]
    assert "monai_difom" not in metadata["required_packages_version"]
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == {"0": "polyp"}
    assert metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] == [SIZE, SIZE]
    assert metadata["eval_metrics"]["ETIS_dice"] == 0.7123
    assert [teacher["licence"] for teacher in metadata["teachers"]] == ["Apache-2.0"]
    assert read_deployment(exported) == Deployment((SIZE, SIZE), structures=("polyp",))
    card = (exported / "docs" / "README.md").read_text()
    assert "| ETIS | 2 | 0.712 | 0.600 | 12.0 | 0.800 | 0.050 |" in card
    assert "| openvino-int8" in card
    assert "facebook/dinov2-base | Apache-2.0" in card
    for file in re.findall(r"\]\((pictures/[^)]*)\)", card):
        assert Image.open(exported / "docs" / file).size == (60, 40)
    assert card.count("![") == 3


def test_no_file_tells_of_the_machine_that_wrote_it(exported: Path, finished: Path) -> None:
    places = [str(finished).encode(), str(Path(torch.__file__).parents[1]).encode(), b"/home/me"]
    for file in exported.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert not [place for place in places if place in content], file


@pytest.mark.parametrize(
    ("definition", "packages"),
    [
        (MONAI_NETWORK, set()),
        ({"_target_": "timm.create_model", "model_name": "vit_tiny_patch16_224"}, {"timm"}),
        ({"_target_": "torch.nn.Sequential", "_args_": [{"_target_": "timm.layers.LayerNorm"}]}, {"timm"}),
        ({"_target_": "segmentation_models_pytorch.Unet"}, {"segmentation-models-pytorch", "timm"}),
    ],
)
def test_the_packages_that_a_network_needs_are_those_of_its_classes(
    definition: dict, packages: set[str]
) -> None:
    assert set(packages_of(definition)) == packages


def test_the_exported_graph_is_that_of_the_undistilled_network(tmp_path: Path) -> None:
    graphs = []
    for name, latents in (("distilled", "side"), ("undistilled", "none")):
        network = {**OWN_NETWORK, "latents": latents}
        weights = learn(network, tmp_path / f"{name}.pt", steps=1)
        state = {key: value for key, value in load_state(weights).items() if not key.startswith("latents.")}
        save_state(weights, state)
        run = write_run(tmp_path / name, network, weights)
        export_bundle(run, tmp_path / f"{name}_out", ["torchscript", "onnx"])
        models = tmp_path / f"{name}_out" / "models"
        scripted = torch.jit.load(models / "model.ts").inlined_graph
        written = onnx.load(models / "model.onnx").graph
        graphs.append(
            (Counter(node.kind() for node in scripted.nodes()), [node.op_type for node in written.node])
        )
        assert {i.name: list(i.dims) for i in written.initializer}
    assert graphs[0] == graphs[1]


def test_a_network_of_this_package_says_that_it_is_needed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", OWN_NETWORK, learn(OWN_NETWORK, tmp_path / "model.pt", steps=1))
    export_bundle(run, tmp_path / "out", ["bundle", "torchscript"], pictures=False)
    card = (tmp_path / "out" / "docs" / "README.md").read_text()
    assert "needs the package monai_difom (monai_difom.networks.nets.DifomUNet)" in card
    assert "![" not in card
    metadata = json.loads((tmp_path / "out" / "configs" / "metadata.json").read_text())
    assert {"monai_difom", "timm"} <= metadata["required_packages_version"].keys()
    assert "segmentation-models-pytorch" not in metadata["required_packages_version"]
    assert "- $import monai_difom" in (tmp_path / "out" / "configs" / "inference.yaml").read_text()
    code = "import torch; print(torch.jit.load('out/models/model.ts')(torch.zeros(1, 3, 32, 32)).shape)"
    run_without({"monai", "monai_difom"}, code, tmp_path)


def test_a_format_out_of_tolerance_fails_and_the_older_export_stays(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "export",
        "--bundle",
        str(finished),
        "--output",
        str(tmp_path / "out"),
        "--format",
        "torchscript",
    ]
    assert main(words) == 0
    before = (tmp_path / "out" / "models" / "model.ts").read_bytes()
    written = writers.write_torchscript

    def damaged(work: writers.Work, file: Path) -> None:
        with torch.no_grad():
            next(work.graph.parameters()).mul_(0.5)
        written(work, file)

    monkeypatch.setattr(writers, "write_torchscript", damaged)
    assert main(words) == 2
    message = capsys.readouterr().err
    assert "torchscript: the largest difference is" in message
    assert "Nothing was written" in message
    assert (tmp_path / "out" / "models" / "model.ts").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_parity_names_the_figure_that_is_out() -> None:
    good = {"max": 0.0, "mean": 0.0, "dice": 1.0}
    assert parity_failures(dict.fromkeys(FORMATS, good)) == []
    assert FORMATS["openvino-int8"].tolerance == Tolerance(None, 0.02, 0.95)
    (failure,) = parity_failures({"openvino-int8": {"max": 1.0, "mean": 0.0, "dice": 0.9}})
    assert "the Dice between the masks is 0.9000, allowed is 0.95" in failure
    assert len(parity_failures({"onnx": {"max": float("nan"), "mean": float("nan"), "dice": 1.0}})) == 2


def test_a_network_is_in_parity_with_itself(finished: Path) -> None:
    runner = open_runner(finished)
    (found,) = measure_parity(runner, {"onnx": runner}, [blob(0)[0]]).values()
    assert found == {"max": 0.0, "mean": 0.0, "dice": 1.0, "pictures": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"formats": ["tflite"]}, r"format is tflite; allowed are bundle, torchscript"),
        ({"formats": ["openvino-int8"]}, "openvino-int8 needs a calibration set: --calibration DIR"),
        ({"images": "nowhere"}, "no input at nowhere"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_nothing_is_left(
    change: dict, message: str, finished: Path, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        export_bundle(
            **{"bundle": finished, "output": tmp_path / "out", "formats": ["torchscript"], **change}
        )
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_its_extra(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "images", 1)
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(
        ValueError, match=r"8-bit OpenVINO files need the package nncf.*monai-difom\[deploy\]"
    ):
        export_bundle(finished, tmp_path / "out", ["openvino-int8"], calibration=tmp_path / "images")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_an_output_that_holds_something_else_is_not_replaced(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ValueError, match="would be lost"):
        export_bundle(finished, tmp_path, ["torchscript"])
    with pytest.raises(ValueError, match="which is what is exported"):
        export_bundle(finished, finished / "bundle", ["torchscript"])


def test_without_test_images_those_of_the_report_are_taken(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("bundle", "examples", "summary.json"):
        (run / name).symlink_to(finished / name)
    measured = export_bundle(run, tmp_path / "out", ["torchscript"])
    assert measured["torchscript"]["pictures"] == 3
    (run / "examples").unlink()
    with pytest.raises(FileNotFoundError, match="Give some with --images"):
        export_bundle(run, tmp_path / "out", ["torchscript"])


def test_the_portable_transforms_give_the_same_input(exported: Path, finished: Path, tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (40, 60)).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(blob(0)[0]).save(tmp_path / "plain.png")
    for name in ("deep.png", "plain.png"):
        found = []
        for bundle in (exported, finished / "bundle"):
            parser = ConfigParser()
            parser.read_config(str(bundle / "configs" / "inference.yaml"))
            parser["bundle_root"] = str(bundle)
            found.append(parser.get_parsed_content("preprocessing")({"image": str(tmp_path / name)})["image"])
        facts = read_deployment(exported)
        np.testing.assert_allclose(found[0], found[1], atol=1e-6)
        np.testing.assert_allclose(found[0], facts.prepare(read_picture(tmp_path / name))[0], atol=1e-6)


def test_channels_are_named_by_the_configuration_or_else_numbered(tmp_path: Path) -> None:
    network = {**OWN_NETWORK, "out_channels": 2}
    run = write_run(tmp_path / "run", network, learn(network, tmp_path / "model.pt", steps=0))
    export_bundle(run, tmp_path / "out", ["bundle"])
    metadata = json.loads((tmp_path / "out" / "configs" / "metadata.json").read_text())
    output = metadata["network_data_format"]["outputs"]["pred"]
    assert output["channel_def"] == {"0": "structure_0", "1": "structure_1"}
    assert output["num_channels"] == 2
    config = run / "bundle" / "configs" / "inference.yaml"
    config.write_text(config.read_text() + "structures: [disc, cup]\n")
    assert open_runner(run).facts.structures == ("disc", "cup")


def test_weights_of_its_own_are_not_asked_for(tmp_path: Path) -> None:
    network = {**OWN_NETWORK, "pretrained": None}
    run = write_run(tmp_path / "run", network, learn(network, tmp_path / "model.pt", steps=1))
    config = run / "bundle" / "configs" / "inference.yaml"
    config.write_text(config.read_text().replace("pretrained: null", "pretrained: /gone/encoder.safetensors"))
    assert export_bundle(run, tmp_path / "out", ["bundle"])["bundle"]["dice"] == 1
    assert (
        "pretrained"
        not in yaml.safe_load((tmp_path / "out/configs/inference.yaml").read_text())["network_def"]
    )


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ({"_target_": "os.system", "command": "touch evil"}, "calls os.system; a network is built from"),
        ({**OWN_NETWORK, "features": "$__import__('os').system('touch evil')"}, "runs no code"),
        ({**OWN_NETWORK, "bias": {"_target_": "builtins.eval", "source": "1"}}, "calls builtins.eval"),
    ],
)
def test_a_bundle_that_would_run_code_is_refused(
    definition: dict, message: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load((finished / "bundle" / "configs" / "inference.yaml").read_text())
    (tmp_path / "bad" / "configs").mkdir(parents=True)
    (tmp_path / "bad" / "configs" / "inference.yaml").write_text(
        yaml.safe_dump({**config, "network_def": definition})
    )
    for name in ("configs/metadata.json", "models"):
        (tmp_path / "bad" / name).symlink_to(finished / "bundle" / name)
    with pytest.raises(ValueError, match=message):
        export_bundle(tmp_path / "bad", tmp_path / "out", ["bundle"])
    assert {path.name for path in tmp_path.iterdir()} == {"bad"}


def test_an_exported_bundle_refuses_what_would_go_elsewhere_without_this_package(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path, 1)

    def configured(words: list[str], **changes: object) -> ConfigParser:
        parser = ConfigParser()
        parser.read_config(str(exported / "configs" / "inference.yaml"))
        parser.update({"dataset_dir": str(tmp_path), "output_dir": "masks", **changes})
        monkeypatch.setattr(sys, "argv", ["monai.bundle", "run", *words])
        return parser

    for words in (["--output_dir", "masks#2"], ["--output_dir=masks#2"], ["--dataset_dir", "a#b"]):
        with pytest.raises(SystemExit, match="give another name"):
            configured(words).get_parsed_content("initialize::0")
    with pytest.raises(SystemExit, match="give another name"):
        configured([], output_dir=202401).get_parsed_content("initialize::0")
    fine = configured(["--network_def#out_channels", "3", "--a=$@b#c"])
    assert fine.get_parsed_content("initialize::0") is None
    assert fine.get_parsed_content("run::0") is None
    Image.fromarray(blob(0)[0]).save(tmp_path / "0.bmp")
    with pytest.raises(SystemExit, match="Two images have the same name"):
        configured([]).get_parsed_content("run::0")
