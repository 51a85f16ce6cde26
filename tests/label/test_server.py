"""The stock app of MONAI Label serves and trains an exported bundle, over HTTP; `make test-label` runs this."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from monai_difom.utils import file_digest
from tests.apps.deployed.students import blob
from tests.bundles.commands import ROOT, bright_corner, command

pytestmark = [
    pytest.mark.label,
    pytest.mark.skipif(
        find_spec("monailabel") is None, reason="needs MONAI Label: make test-label has its environment"
    ),
]
NAME, LABELLED = "polyp_student", 12
Answer = dict[str, Any]


def call(*words: str) -> str:
    """Run a command in the project's root and return what it said."""
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass
class Server:
    """A server that runs, and its folders."""

    url: str
    process: subprocess.Popen
    images: Path
    bundle: Path
    teacher: Path
    log: Path

    def infer(self, image: str = "", file: Path | None = None, **params: Any) -> np.ndarray:
        """The mask that the server gives, as the PNG holds it."""
        import requests

        files = {"file": (file.name, file.read_bytes())} if file is not None else None
        answer = requests.post(
            f"{self.url}/infer/{NAME}",
            params={"image": image, "output": "image"},
            data={"params": json.dumps(params)},
            files=files,
            timeout=120,
        )
        assert answer.status_code == 200, answer.text
        picture = Image.open(io.BytesIO(answer.content))
        assert (picture.format, picture.mode) == ("PNG", "L")
        return np.asarray(picture)

    def train(self, **request: Any) -> tuple[str, str]:
        """Train in the background, as a person does who clicks; return how it ended, and the last lines of its log."""
        import requests

        begun = requests.post(f"{self.url}/train/{NAME}", json={"device": "cpu", **request}, timeout=60)
        assert begun.status_code == 200, begun.text
        for _ in range(600):
            task = requests.get(f"{self.url}/train/", timeout=60).json()
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                return task["status"], "\n".join(task["details"])
            time.sleep(0.5)
        raise AssertionError(f"the training does not end: {task}")

    def record(self) -> Answer:
        """What the last training left in the bundle."""
        return json.loads((self.bundle / "label" / "label.json").read_text())


def write_set(folder: Path, number: int, first: int) -> None:
    """Bright ellipses on dark noise, 40 x 60, and their masks."""
    images, masks = folder / "images", folder / "masks"
    for part in (images, masks):
        part.mkdir(parents=True)
    for i in range(first, first + number):
        picture, mask = blob(i)
        Image.fromarray(picture).save(images / f"{i}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(masks / f"{i}.png")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student trained for seconds from a teacher of random weights, exported for MONAI Label."""
    import timm
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("exported")
    write_set(folder / "data" / "TrainDataset", 40, 0)
    (folder / "data" / "TrainDataset" / "images").rename(folder / "data" / "TrainDataset" / "image")
    (folder / "data" / "TrainDataset" / "masks").rename(folder / "data" / "TrainDataset" / "mask")
    write_set(folder / "data" / "TestDataset" / "blobs", 4, 100)
    torch.manual_seed(0)
    teacher = timm.create_model("mobilenetv2_100", pretrained=False, pad_type="same", features_only=True)
    save_file(teacher.state_dict(), str(folder / "teacher.safetensors"))
    options = {
        "bundle_root": "bundles/polyp_difom",
        "dataset_dir": folder / "data",
        "teacher_weights": folder / "teacher.safetensors",
        "output_dir": folder / "run",
        "ckpt_dir": folder / "run" / "models",
        "image_size": 64,
        "batch_size": 4,
        "epochs": [1, 4, 3],
        "learning_rate": 0.01,
        "device": "cpu",
        "report": False,
        "progress": False,
    }
    call(*command("training", ["bundles/polyp_difom/configs/train.yaml"], **options))
    words = ["export", "--bundle", str(folder / "run"), "--output", str(folder / NAME), "--format", "bundle"]
    call(sys.executable, "-m", "monai_difom", *words, "--train", "configs/label/train.yaml")
    return folder / NAME


@pytest.fixture(scope="module")
def server(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server as `make label` starts it, on a free port; always stopped, with the trainings that it began."""
    import requests

    folder = tmp_path_factory.mktemp("served")
    bright_corner(folder / "images")
    Image.open(folder / "images" / "wide.png").save(folder / "images" / "photo.jpeg", quality=100)
    for i in range(LABELLED):
        Image.fromarray(blob(200 + i)[0]).save(folder / "images" / f"case{i}.png")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["--model", str(exported), "--images", str(folder / "images"), "--app", str(folder / "app")]
    with open(folder / "server.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "monai_difom", "label", *words, "--port", str(port)],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            assert process.poll() is None, (folder / "server.log").read_text()[-3000:]
            try:
                if requests.get(f"{url}/info/", timeout=60).status_code == 200:
                    break
            except requests.ConnectionError:
                time.sleep(0.5)
        bundle = folder / "app" / "model" / NAME
        teacher = exported.parent / "teacher.safetensors"
        yield Server(url, process, folder / "images", bundle, teacher, folder / "server.log")
    finally:
        stop(process)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/info/", timeout=5)


def stop(process: subprocess.Popen) -> None:
    """End a server and all that it started."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=15)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=15)


# the tests below are one session at a server, in this order


def test_it_is_the_stock_app_and_offers_the_student_and_its_training(server: Server) -> None:
    import requests

    stock = Path(sys.prefix, "monailabel", "sample-apps", "monaibundle")
    for file in stock.rglob("*.py"):
        assert (server.bundle.parents[1] / file.relative_to(stock)).read_bytes() == file.read_bytes()
    info = requests.get(f"{server.url}/info/", timeout=60).json()
    assert list(info["models"]) == [NAME]  # no other model was fetched
    assert info["models"][NAME]["type"] == "segmentation"
    assert info["models"][NAME]["dimension"] == 2
    assert list(info["models"][NAME]["labels"]) == ["polyp"]
    assert list(info["trainers"]) == [NAME]


def test_it_listens_on_this_machine_only(server: Server) -> None:
    import psutil

    listening = [
        c for c in psutil.Process(server.process.pid).net_connections() if c.status == psutil.CONN_LISTEN
    ]
    assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}


@pytest.mark.parametrize("image", ["wide", "photo"])
def test_the_mask_is_an_upright_png_of_zeros_and_ones_at_the_images_size(server: Server, image: str) -> None:
    bright = np.zeros((50, 70), bool)
    bright[:20, 40:] = True
    mask = server.infer(image)  # a JPEG too gets a PNG
    assert mask.shape == bright.shape
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1}
    agreement = {
        "upright": (mask == bright).mean(),
        "mirrored": (mask[:, ::-1] == bright).mean(),
        "upside down": (mask[::-1] == bright).mean(),
        "turned": (mask[::-1, ::-1] == bright).mean(),
    }
    assert agreement["upright"] > 0.93, agreement
    assert max(value for name, value in agreement.items() if name != "upright") < 0.85, agreement


def test_an_image_that_is_sent_along_gives_the_same_mask(server: Server) -> None:
    np.testing.assert_array_equal(server.infer(file=server.images / "wide.png"), server.infer("wide"))


def test_the_code_that_cvat_runs_gets_the_outline_of_the_polyp(server: Server) -> None:
    # Nuclio calls these two functions of MONAI Label's plugin; CVAT draws what they return
    file = Path(sys.prefix, "monailabel", "plugins", "cvat", "detector.py")
    spec = importlib.util.spec_from_file_location("cvat_detector", file)
    assert spec is not None
    assert spec.loader is not None
    detector = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(detector)
    context = Namespace(
        logger=Namespace(info=lambda _: None), user_data=Namespace(), Response=lambda **answer: answer
    )
    os.environ.update(MONAI_LABEL_SERVER=server.url, MONAI_LABEL_MODEL=NAME)
    detector.init_context(context)
    for name, expected in (("wide.png", 1), ("dark", 0)):
        stream = io.BytesIO()
        picture = Image.new("RGB", (70, 50)) if name == "dark" else Image.open(server.images / name)
        picture.save(stream, "PNG")
        sent = Namespace(body={"image": base64.b64encode(stream.getvalue()).decode()})
        shapes = json.loads(detector.handler(context, sent)["body"])
        assert len(shapes) == expected, shapes
    stream = io.BytesIO()
    Image.open(server.images / "wide.png").save(stream, "PNG")
    sent = Namespace(body={"image": base64.b64encode(stream.getvalue()).decode()})
    (shape,) = json.loads(detector.handler(context, sent)["body"])
    points = np.array(shape["points"]).reshape(-1, 2)  # x, y
    assert (shape["label"], shape["type"]) == ("polyp", "polygon")
    assert 34 <= points[:, 0].min() <= 46
    assert points[:, 0].max() >= 64
    assert points[:, 1].min() <= 5
    assert 15 <= points[:, 1].max() <= 26


def test_a_training_without_labels_says_so(server: Server) -> None:
    status, log = server.train(max_epochs=1)
    assert status == "ERROR"
    assert "there are no labels to learn from" in log


def test_labels_are_saved_over_http(server: Server) -> None:
    import requests

    for i in range(LABELLED):  # the person wants what the student leaves out: everything but the ellipse
        stream = io.BytesIO()
        Image.fromarray((~blob(200 + i)[1]).astype(np.uint8)).save(stream, "PNG")
        answer = requests.put(
            f"{server.url}/datastore/label",
            params={"image": f"case{i}", "tag": "final"},
            files={"label": (f"case{i}.png", stream.getvalue())},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
    stats = requests.get(f"{server.url}/datastore/", timeout=60).json()
    assert stats["completed"] == LABELLED


def test_one_phase_is_trained_by_its_name(server: Server) -> None:
    status, log = server.train(run_id="refine", max_epochs=2, val_split=0.25)
    assert status == "DONE", log
    record = server.record()
    assert record["phases"] == {"refine": 2}
    assert (record["labels"], record["validation"], record["teachers"]) == (9, 3, [])
    assert "Trained on 9 labels. Dice on 3 validation images" in log


def test_all_phases_distil_again_and_what_was_trained_is_what_infers(server: Server) -> None:
    served, before = file_digest(server.bundle / "models" / "model.pt"), server.infer("case0")
    truth = ~blob(200)[1]
    assert (before == truth).mean() < 0.5
    status, log = server.train(max_epochs=60, val_split=0.25)
    assert status == "DONE", log
    record = server.record()
    assert record["phases"].keys() == {"align", "distil", "refine"}
    assert record["teachers"] == ["imagenet"]
    assert record["installed"], record
    assert record["dice"]["before"] < 0.3, record
    assert record["dice"]["after"] > 0.75, record
    assert file_digest(server.bundle / "models" / "model_before.pt") == served
    assert (server.infer("case0") == truth).mean() > 0.7
    # the weights before can still be asked for
    old = server.infer("case0", model_filename="model_before.pt")
    assert old.shape == before.shape


def test_without_the_teacher_and_with_the_empty_run_id_of_a_panel_it_still_trains(server: Server) -> None:
    hidden = server.teacher.rename(server.teacher.with_suffix(".hidden"))
    try:
        status, log = server.train(run_id="", max_epochs=2, val_split=0.25)
    finally:
        hidden.rename(server.teacher)
    assert status == "DONE", log
    record = server.record()
    assert record["teachers"] == []
    assert "teacher.safetensors" in record["without"]
