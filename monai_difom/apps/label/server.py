"""Start a MONAI Label server with its stock app ``monaibundle`` and an exported bundle."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from ...data.folder_files import tell_not_taken
from ...data.items import NIFTI_SUFFIXES
from ...transforms.picture_file import PICTURE_SUFFIXES
from ...utils import file_digest, refuse_other_content, replaced_folder, with_folder, write_json
from ...utils.configurations import resolved
from ...utils.documents import read_json
from ...utils.weight_files import BUNDLE_WEIGHTS
from ..deployed.facts import INFERENCE, METADATA
from ..deployed.runners import find_bundle
from ..export.training_config import TRAIN

APP = Path("monailabel", "sample-apps", "monaibundle")
ORIGIN = "origin.json"
# MONAI Label takes a model for one of these by its name, and asks something else of it
_OTHER_TASKS = ("deepedit", "deepgrow", "detection", "classification")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def run_label(model: Path, images: Path, app: Path, name: str | None, host: str, port: int) -> int:
    """Become a MONAI Label server, and return the exit code 2 where that is refused.

    Args:
        model: an exported bundle.
        images: folder of images; MONAI Label writes ``labels`` and an index into it.
        app: folder of the stock app and of the bundle's working copy, which is what learns; both are made when absent.
        name: name of the model; None takes that of its folder.
        host: address to listen at. Whoever reaches it can read and write images, labels and models: there is no password.
        port: port to listen at.
    """
    try:
        stock = _stock_app()
        if "#" in str(app.resolve()):
            raise ValueError(
                f"--app is {app}: MONAI's configurations turn '#' into '::'. Give a folder without it."
            )
        _check_images(images, patterns_of(find_bundle(model)))
        name = name or model.resolve().name
        prepare_app(stock, app, model, name)
    except (ValueError, FileNotFoundError) as error:
        print(f"label: {error}", file=sys.stderr)
        return 2
    if host not in _LOOPBACK:
        print(
            f"label: {host} is open to other machines, and MONAI Label asks for no password.", file=sys.stderr
        )
    words, environment = server_command(app, images, name, host, port)
    print(
        f"MONAI Label with {name} and {images}: http://{host}:{port} in about half a minute; Ctrl-C stops it.",
        flush=True,
    )
    os.execve(words[0], words, environment)  # the server is this process: what stops one stops the other


def prepare_app(stock: Path, app: Path, model: Path, name: str) -> Path:
    """Copy the stock app, unchanged, and a working copy of a bundle into a folder.

    A working copy of the same weights stays as it is, with what it has learned since.

    Args:
        stock: MONAI Label's ``sample-apps/monaibundle``.
        app: folder to make, or an older one.
        model: an exported bundle, or a run that holds one.
        name: name of the model.

    Returns:
        The working copy.

    Raises:
        FileNotFoundError: there is no bundle with weights.
        ValueError: the name means another task to MONAI Label, or the folder holds something else, or another student.
    """
    found = [word for word in _OTHER_TASKS if word in name.lower()]
    if found or not re.fullmatch(r"\w[\w.-]*", name):
        reason = f"it takes {found[0]} in it for another task" if found else "it is no plain word"
        raise ValueError(
            f"{name!r} cannot be a model's name in MONAI Label: {reason}. Give another with --name."
        )
    bundle, target = find_bundle(model), app / "model" / name
    for needed in (BUNDLE_WEIGHTS, INFERENCE, METADATA):
        if not (bundle / needed).is_file():
            raise FileNotFoundError(f"{bundle} lacks {needed}: give a bundle that was exported or trained.")
    origin = {"weights": file_digest(bundle / BUNDLE_WEIGHTS)}
    if target.exists() and _origin(target) != origin:
        raise ValueError(
            f"{target} is a copy of another student, and may have learned since. Give another --app or --name, or delete it."
        )
    refuse_other_content(app, "main.py")
    shutil.copytree(
        stock, app, ignore=shutil.ignore_patterns("logs", "model", "__pycache__"), dirs_exist_ok=True
    )
    if not target.exists():
        with replaced_folder(target) as draft:
            for part in ("configs", "docs"):
                shutil.copytree(bundle / part, draft / part)
            for file in ("LICENSE", BUNDLE_WEIGHTS):
                shutil.copyfile(bundle / file, with_folder(draft / file))
            if "train_on_labels" not in _text(draft / TRAIN):
                (draft / TRAIN).unlink(missing_ok=True)
                print(
                    f"label: {model} has no configuration to learn from labels (export --train): it is served only."
                )
            write_json(draft / ORIGIN, origin)
    return target


def server_command(
    app: Path, images: Path, name: str, host: str, port: int
) -> tuple[list[str], Mapping[str, str]]:
    """Return the words and the environment of a server that fetches nothing from anywhere.

    Args: those of `run_label`.
    """
    options = {"models": name, "zoo_source": "ngc", "sam2": "false", "preload": "true"}
    words = [
        sys.executable,
        "-m",
        "monailabel.main",
        "start_server",
        "--app",
        str(app),
        "--studies",
        str(images),
    ]
    words += [word for key, value in options.items() for word in ("--conf", key, value)]
    environment = {
        # on several GPUs the app looks for a configuration of its own, and without it trains nothing and says nothing
        "CUDA_VISIBLE_DEVICES": "0",
        **os.environ,
        "MONAI_LABEL_SESSION_PATH": str((app / "sessions").resolve()),  # or in the person's home
        "MONAI_LABEL_DATASTORE_FILE_EXT": json.dumps(patterns_of(app / "model" / name)),
        "MONAI_LABEL_TRACKING_ENABLED": "false",
    }
    return [*words, "--host", host, "--port", str(port)], environment


def _stock_app() -> Path:
    if find_spec("monailabel") is None:
        raise ValueError(
            "MONAI Label is not installed here. It has an environment of its own: run `make label`, or install "
            "configs/label/requirements.txt and this package into a new one."
        )
    stock = Path(sys.prefix) / APP
    if not (stock / "main.py").is_file():
        raise FileNotFoundError(f"no app at {stock}: install monailabel anew in this environment.")
    return stock


def patterns_of(bundle: Path) -> list[str]:
    """Return the patterns of the files that a bundle segments: volumes, or pictures; MONAI Label by itself passes some over."""
    config = bundle / INFERENCE
    volumes = config.is_file() and resolved(config, "plane") is not None
    suffixes = NIFTI_SUFFIXES if volumes else PICTURE_SUFFIXES
    return [f"*{ending}" for suffix in suffixes for ending in (suffix, suffix.upper())]


def _check_images(folder: Path, patterns: Sequence[str]) -> None:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}. Give the folder of the images with --images.")
    taken = {file.name for pattern in patterns for file in folder.glob(pattern)}
    if not taken:
        raise ValueError(
            f"{folder} holds no images ({', '.join(patterns[::2])}); they must be in it, not below it."
        )
    own = ("labels", "datastore_v2.json")  # MONAI Label's
    others = [entry.name for entry in sorted(folder.iterdir()) if entry.name not in (*taken, *own)]
    tell_not_taken(folder, dict.fromkeys(others, "no image that the model segments, or hidden"))


def _origin(bundle: Path) -> dict[str, str] | None:
    file = bundle / ORIGIN
    return read_json(file) if file.is_file() else None


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""
