"""What trained a network and what deploys it give it the same numbers, whatever the form, the file and its storage order."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from torch import nn

from monai_difom.apps.deployed.runners import Runner, open_runner
from monai_difom.apps.export.deployable import export_bundle
from monai_difom.apps.export.trained_bundle import write_trained_bundle
from monai_difom.apps.label.server import patterns_of, prepare_app
from monai_difom.apps.predict import predict as predict_module
from monai_difom.apps.predict.predict import predict
from monai_difom.apps.predict.serve import look
from monai_difom.data import loading_chain, plain_augmentation, prepare_layout
from monai_difom.transforms import PICTURE_SUFFIXES
from monai_difom.transforms.volume_file import PLANES
from monai_difom.utils import save_state
from tests import odd_files as odd

from .students import ROOT

SIZE, MEAN, STD = (32, 48), [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]
WINDOW = [-160, 240]
ORDERS = ("LPS", "RAS", "LAS", "PIR", "SRA", "AIL")
NETWORK = {
    "_target_": "monai.networks.nets.BasicUNet",
    "spatial_dims": 2,
    "in_channels": 3,
    "out_channels": 1,
    "features": [2, 2, 2, 2, 2, 2],
    "norm": "batch",
}
pytestmark = pytest.mark.filterwarnings("ignore")


class Recorder(nn.Module):
    """A network that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[np.ndarray] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen += list(torch.as_tensor(image).numpy())
        return image[:, :1] * 0 - 1


def write_bundle(folder: Path, **settings: Any) -> Path:
    """The bundle that a run of bundles/polyp_difom leaves, with these settings."""
    from monai_difom.networks.definition import build_network

    torch.manual_seed(0)
    network = build_network(NETWORK)
    with torch.no_grad():  # half of a picture is foreground
        network.final_conv.bias -= network(torch.randn(1, 3, *SIZE)).median()
    save_state(folder / "model.pt", network.state_dict())
    known = {"network_def": NETWORK, "image_size": list(SIZE), "mean": MEAN, "std": STD, **settings}
    replaced = "slices" if "plane" in settings else None
    source = ROOT / "bundles" / "polyp_difom"
    return write_trained_bundle(folder / "bundle", source, folder / "model.pt", known, {}, replaced)


def exported(bundle: Path, folder: Path) -> Path:
    """The same, exported, in the working copy of a MONAI Label app, with the ONNX model beside."""
    odd.save(folder / "images" / "a.png", odd.picture())
    export_bundle(bundle, folder / "exported", ["bundle", "torchscript", "onnx"], images=folder / "images")
    stock = folder / "stock"
    stock.mkdir()
    (stock / "main.py").write_text("# the app\n")
    return prepare_app(stock, folder / "app", folder / "exported", "student")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "images").mkdir()
    bundle = write_bundle(folder)
    return {"run": bundle, "label": exported(bundle, folder), "exported": folder / "exported"}


@pytest.fixture(scope="module", params=[("axial", WINDOW), ("coronal", None)], ids=["axial", "coronal"])
def slices(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("slices")
    (folder / "images").mkdir()
    plane, window = request.param
    bundle = write_bundle(folder, plane=plane, window=window)
    return {
        "plane": plane,
        "window": window,
        "run": bundle,
        "label": exported(bundle, folder),
        "exported": folder / "exported",
    }


def trained_on(image: Path, mask: Path) -> np.ndarray:
    """What the network is trained on, without the random part."""
    item = {"image": str(image), "label": str(mask)}
    chain = loading_chain(SIZE), plain_augmentation(MEAN, STD)
    return np.asarray(chain[1](chain[0](item))["image"])


def recording(
    model: Path, monkeypatch: pytest.MonkeyPatch, engine: str | None = None
) -> tuple[Runner, Recorder]:
    """A model as `predict` opens it, whose input is kept."""
    recorder, runner = Recorder(), open_runner(model, engine)

    def logits(image: np.ndarray) -> np.ndarray:
        recorder(torch.from_numpy(image))
        return runner.logits(image)

    changed = replace(runner, logits=logits)
    monkeypatch.setattr(predict_module, "open_runner", lambda *_: changed)
    return changed, recorder


def configured(bundle: Path, folder: Path) -> ConfigParser:
    """A bundle's inference configuration on a folder, as `monai.bundle run` and MONAI Label parse it."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "inference.yaml"))
    parser.update({"dataset_dir": str(folder), "bundle_root": str(bundle), "output_dir": str(folder / "out")})
    return parser


WRITE: dict[str, Callable[[Path], object]] = {
    "plain.png": lambda p: odd.save(p, odd.picture()),
    "turned.png": lambda p: odd.save(p, odd.stored_for(odd.picture(), 6), exif=odd.exif(6)),
    "mirrored.tif": lambda p: odd.save(p, odd.stored_for(odd.picture(), 7), exif=odd.exif(7)),
    "phone.jpg": lambda p: odd.save(p, odd.stored_for(odd.picture(), 8), exif=odd.exif(8)),
    "deep.png": lambda p: odd.save(p, odd.picture()[..., 0] * np.uint16(257)),
    "deep.tif": lambda p: odd.save(p, odd.picture()[..., 0] * np.uint16(251)),
    "colours.png": lambda p: p.write_bytes(odd.deep_colour(odd.picture() * np.uint16(257))),
    "grey.bmp": lambda p: odd.save(p, odd.picture()[..., 0]),
    "alpha.png": lambda p: odd.save(p, np.dstack([odd.picture(), odd.shape() * np.uint8(200)])),
    "a.webp": lambda p: odd.save(p, odd.picture(), lossless=True),
    "a.gif": lambda p: odd.save(p, odd.picture()[..., 0]),
    "a [1].jfif": lambda p: p.write_bytes(odd.jpeg(odd.picture())),
}


@pytest.mark.xdist_group("same_input")
@pytest.mark.parametrize("name", WRITE)
def test_a_picture_reaches_the_network_as_in_training_in_every_deployed_form(
    name: str, pictures: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in[put]"
    folder.mkdir()
    WRITE[name](folder / name)
    trained = trained_on(folder / name, odd.save(tmp_path / "mask.png", odd.shape()))
    forms = {"run": (pictures["run"], None), "onnx": (pictures["exported"], "onnx")}
    forms["torchscript"] = (pictures["exported"] / "models" / "model.ts", None)
    for form, (model, engine) in forms.items():
        runner, recorder = recording(model, monkeypatch, engine)
        predict(model, folder, tmp_path / form)
        look(runner, folder / name)  # the page
        assert len(recorder.seen) == 2
        for seen in recorder.seen:
            np.testing.assert_allclose(seen, trained, atol=1e-6, err_msg=form)
    for form in ("run", "exported", "label"):
        (item,) = configured(pictures[form], folder).get_parsed_content("dataset")
        np.testing.assert_allclose(np.asarray(item["image"]), trained, atol=1e-6, err_msg=form)


@pytest.mark.xdist_group("same_input")
def test_monai_label_is_told_which_files_a_student_segments(
    pictures: dict[str, Path], slices: dict[str, Any]
) -> None:
    assert {"*.png", "*.PNG", "*.webp"} <= set(patterns_of(pictures["label"]))
    assert patterns_of(slices["label"]) == ["*.nii", "*.NII", "*.nii.gz", "*.NII.GZ"]


def write_volumes(folder: Path, codes: str) -> Path:
    """Three volumes of one anatomy that no turn leaves as it is, in a storage order."""
    x, y, z = np.mgrid[:12, :14, :7]
    for number in range(3):
        values = np.full((12, 14, 7), -1000, np.int16)
        body = ((x - 6) / 5) ** 2 + ((y - 6) / 6) ** 2 < 1
        values[body] = (40 + 7 * x + 3 * y - 11 * z + 5 * number)[body]
        mask = (body & (x > 6) & (y > 5) & (z > 1)).astype(np.uint8)
        for part, array in (("images", values), ("masks", mask)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            plain = nibabel.Nifti1Image(array, np.diag([1.0, 1.5, 2.0, 1.0]))
            turn = ornt_transform(io_orientation(plain.affine), axcodes2ornt(codes))
            nibabel.save(plain.as_reoriented(turn), folder / part / f"v{number}.nii.gz")
    return folder


@pytest.mark.xdist_group("same_input")
@pytest.mark.parametrize("codes", ORDERS)
def test_a_volume_reaches_the_network_as_in_training_in_every_deployed_form(
    codes: str, slices: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_volumes(tmp_path / "data", codes)
    plane, window = slices["plane"], slices["window"]
    prepared = Path(prepare_layout("nifti_slices", data, tmp_path / "lists", 0.4, plane=plane, window=window))
    content = json.loads((prepared / "datalist.json").read_text())
    tests = content["test"]  # all slices of a volume
    name = Path(tests[0]["image"]).name.split("_")[0]
    trained = [
        trained_on(i["image"], i["label"]) for i in tests if Path(i["image"]).name.startswith(f"{name}_")
    ]
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / f"{name}.nii.gz").write_bytes((data / "images" / f"{name}.nii.gz").read_bytes())
    for form, engine in (("run", None), ("exported", "onnx")):
        _, recorder = recording(slices[form], monkeypatch, engine)
        predict(slices[form], folder, tmp_path / form)
        np.testing.assert_allclose(recorder.seen, trained, atol=1e-6, err_msg=form)
    for form in ("run", "exported", "label"):
        parser, recorder = configured(slices[form], folder), Recorder()
        (item,) = parser.get_parsed_content("dataset")
        parser.get_parsed_content("inferer")(item["image"].as_tensor()[None], recorder)
        np.testing.assert_allclose(recorder.seen, trained, atol=1e-6, err_msg=form)


@pytest.mark.xdist_group("same_input")
@pytest.mark.parametrize("codes", ["LPS", "PIR"])
def test_a_volumes_mask_is_the_same_by_predict_and_by_every_inference_yaml(
    codes: str, slices: dict[str, Any], tmp_path: Path
) -> None:
    data = write_volumes(tmp_path / "data", codes)
    predict(slices["run"], data / "images", tmp_path / "predicted")
    for form in ("run", "exported"):
        parser = configured(slices[form], data / "images")
        parser.update({"output_dir": str(tmp_path / form), "device": "cpu"})
        parser.update({"ckpt_dir": str(slices[form] / "models")})
        parser.get_parsed_content("checkpointloader")(parser.get_parsed_content("evaluator"))
        parser.get_parsed_content("evaluator").run()
        for number in range(3):
            mine, other = (
                nibabel.load(folder)
                for folder in (
                    tmp_path / "predicted" / "masks" / f"v{number}.nii.gz",
                    tmp_path / form / f"v{number}_mask.nii.gz",
                )
            )
            np.testing.assert_allclose(mine.affine, other.affine, atol=1e-5)
            same = np.asarray(mine.dataobj) == np.asarray(other.dataobj)
            assert same.mean() > 0.999
            assert 0 < np.asarray(mine.dataobj).mean() < 1


def test_a_volume_is_refused_by_the_page_with_a_reason(pictures: dict[str, Path], tmp_path: Path) -> None:
    from monai_difom.apps.predict.sources import BadPictureError

    file = write_volumes(tmp_path, "RAS") / "images" / "v0.nii.gz"
    with pytest.raises(BadPictureError, match="cannot be read"):
        look(open_runner(pictures["run"]), file)


def test_every_inference_yaml_takes_the_pictures_that_are_taken_elsewhere_and_hangs_volumes_alike() -> None:
    for file in ROOT.glob("bundles/*/configs/inference.yaml"):
        assert str(PICTURE_SUFFIXES) in file.read_text()
    parser = ConfigParser()
    parser.read_config(str(ROOT / "configs" / "slices" / "inference.yaml"))
    for plane, (codes, order) in PLANES.items():
        assert parser["hanging"][plane] == codes
        assert parser["order"][plane] == [0, *(axis + 1 for axis in order)]
