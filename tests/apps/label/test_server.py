"""What the server of MONAI Label is started with; the server itself is tried by `make test-label`."""

from __future__ import annotations

import ast
import json
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import SaveImaged
from PIL import Image

from monai_difom.__main__ import main, make_parser
from monai_difom.apps.label import server as module
from monai_difom.apps.label.server import prepare_app, server_command
from monai_difom.utils import file_digest, save_state
from tests.apps.deployed.students import OWN_NETWORK, learn, write_run
from tests.bundles.commands import bright_corner

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    weights = learn(OWN_NETWORK, folder / "model.pt", steps=5)
    return write_run(folder / "run", OWN_NETWORK, weights) / "bundle"


@pytest.fixture
def stock(tmp_path: Path) -> Path:
    folder = tmp_path / "stock"
    (folder / "lib").mkdir(parents=True)
    (folder / "model").mkdir()
    (folder / "main.py").write_text("# the app\n")
    return folder


def label_words(bundle: Path, folder: Path) -> list[str]:
    """The command of a server with ``folder/images``, below the program's name."""
    return ["label", "--model", str(bundle), "--images", str(folder / "images"), "--app", str(folder / "app")]


def test_the_app_is_copied_unchanged_and_the_working_copy_keeps_what_it_learned(
    bundle: Path, stock: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    app = tmp_path / "app"
    copy = prepare_app(stock, app, bundle, "polyp")
    assert (app / "main.py").read_bytes() == (stock / "main.py").read_bytes()
    assert copy == app / "model" / "polyp"
    assert file_digest(copy / "models/model.pt") == file_digest(bundle / "models/model.pt")
    assert "it is served only" in capsys.readouterr().out  # this bundle was not exported with --train
    (copy / "models/model.pt").write_bytes(b"learned")
    prepare_app(stock, app, bundle, "polyp")
    assert (copy / "models/model.pt").read_bytes() == b"learned"


def test_another_student_does_not_replace_a_working_copy(bundle: Path, stock: Path, tmp_path: Path) -> None:
    app = tmp_path / "app"
    prepare_app(stock, app, bundle, "polyp")
    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    save_state(other / "models/model.pt", {"another": torch.zeros(1)})
    with pytest.raises(ValueError, match="a copy of another student"):
        prepare_app(stock, app, other, "polyp")


@pytest.mark.parametrize("name", ["polyp_detection", "DeepEdit", "a b", "../a", ""])
def test_a_name_that_monai_label_would_misread_is_refused(
    bundle: Path, stock: Path, tmp_path: Path, name: str
) -> None:
    with pytest.raises(ValueError, match="cannot be a model's name"):
        prepare_app(stock, tmp_path / "app", bundle, name)
    assert not (tmp_path / "app").exists()


def test_a_folder_with_something_else_and_a_bundle_without_weights_are_refused(
    bundle: Path, stock: Path, tmp_path: Path
) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something"):
        prepare_app(stock, tmp_path / "app", bundle, "polyp")
    with pytest.raises(FileNotFoundError):
        prepare_app(stock, tmp_path / "new", tmp_path / "nowhere", "polyp")


def test_the_server_listens_on_this_machine_only_and_fetches_nothing(tmp_path: Path) -> None:
    words, environment = server_command(tmp_path / "app", tmp_path, "polyp", "127.0.0.1", 8123)
    text = " ".join(words)
    assert "--host 127.0.0.1 --port 8123" in text
    assert (
        "--conf zoo_source ngc --conf sam2 false" in text
    )  # else it asks a site for its models, and for SAM 2
    assert environment["MONAI_LABEL_SESSION_PATH"].startswith(str(tmp_path))
    assert "*.jpeg" in json.loads(environment["MONAI_LABEL_DATASTORE_FILE_EXT"])


def test_the_command_says_what_is_missing(
    bundle: Path, stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    words = label_words(bundle, tmp_path)
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    assert main(words) == 2
    assert "there are no images" in capsys.readouterr().err
    (tmp_path / "images").mkdir()
    assert main(words) == 2
    assert "make label" in capsys.readouterr().err
    monkeypatch.setattr(module, "_stock_app", lambda: stock)
    assert main(words) == 2
    assert "holds no images" in capsys.readouterr().err


def test_what_make_label_would_run_names_options_that_exist() -> None:
    done = subprocess.run(["make", "-n", "-B", "label"], cwd=ROOT, capture_output=True, text=True, check=True)
    commands = [
        shlex.split(line) for line in done.stdout.replace("\\\n", " ").splitlines() if "-m monai" in line
    ]
    (trained,) = [words for words in commands if "monai.bundle" in words]
    options = {trained[i][2:]: trained[i + 1] for i in range(len(trained)) if trained[i].startswith("--")}
    parser = ConfigParser()
    parser.read_config([str(ROOT / file) for file in ast.literal_eval(options.pop("config_file"))])
    assert {"training", *options} <= set(parser.get())
    verbs = [make_parser().parse_args(words[3:]) for words in commands if "monai_difom" in words]
    assert [verb.verb for verb in verbs] == ["export", "label"]
    assert verbs[1].host == "127.0.0.1"
    assert (ROOT / verbs[0].training).is_file()


def test_a_host_beyond_this_machine_is_said_to_be_open(
    bundle: Path, stock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    bright_corner(tmp_path / "images")
    begun: list[list[str]] = []
    monkeypatch.setattr(module, "_stock_app", lambda: stock)
    monkeypatch.setattr(module.os, "execve", lambda file, words, environment: begun.append(words))
    words = label_words(bundle, tmp_path)
    main([*words, "--name", "polyp"])
    assert "open to other machines" not in capsys.readouterr().err
    main([*words, "--name", "polyp", "--host", "0.0.0.0"])
    assert "asks for no password" in capsys.readouterr().err
    assert len(begun) == 2


@pytest.mark.parametrize("name", ["polyp_difom", "task_specific_kd"])
def test_a_photograph_in_jpeg_gives_a_mask_of_two_axes_to_be_written_as_png(
    name: str, tmp_path: Path
) -> None:
    bright = bright_corner(tmp_path / "images")
    Image.open(tmp_path / "images" / "wide.png").save(tmp_path / "wide.jpg", quality=100)
    parser = ConfigParser()
    parser.read_config(str(ROOT / "bundles" / name / "configs" / "inference.yaml"))
    parser["image_size"] = 64
    before, after = (parser.get_parsed_content(f"{part}processing").transforms for part in ("pre", "post"))
    data = {"image": str(tmp_path / "wide.jpg")}
    for transform in before:
        data = transform(data)
    data["pred"] = data["image"][:1] * 10  # a network that finds what is bright
    for transform in [t for t in after if not isinstance(t, SaveImaged)]:
        data = transform(data)
    mask = np.asarray(data["pred"])
    assert mask.dtype == np.uint8
    assert (bright == mask.T).mean() > 0.95  # MONAI's axis order, which MONAI Label turns upright
    assert data["result_extension"] == ".png"
    assert after[-1]({"result_extension": ".nrrd"})["result_extension"] == ".nrrd"
