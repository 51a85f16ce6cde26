"""What is installed from a wheel, or from a source archive, holds what is needed to train."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from monai_difom.data import make_polyps

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.processes


def run(*words: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that knows nothing of the project's folder, and fail with its output."""
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def source_files(kind: str) -> set[str]:
    """The tracked files of ``bundles/`` or ``configs/``."""
    listed = subprocess.run(["git", "ls-files", kind], cwd=ROOT, capture_output=True, text=True, check=False)
    names = listed.stdout.split() or [
        file.relative_to(ROOT).as_posix() for file in (ROOT / kind).rglob("*") if file.is_file()
    ]
    return {name for name in names if "__pycache__" not in name and "/models/" not in name}


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The source archive, and the wheel that is built from what is in it."""
    folder = tmp_path_factory.mktemp("dist")
    build = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"
    run(sys.executable, "-c", build, "build_sdist", folder, folder=ROOT)
    archive = next(folder.glob("*.tar.gz"))
    with tarfile.open(archive) as opened:
        opened.extractall(folder / "source", filter="data")
    source = next((folder / "source").iterdir())
    run(sys.executable, "-c", build, "build_wheel", folder, folder=source)
    return {"sdist": archive, "wheel": next(folder.glob("*.whl"))}


@pytest.fixture(scope="module")
def installed(archives: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel; what the wheel needs is that of the environment of the tests."""
    folder = tmp_path_factory.mktemp("fresh") / "environment"
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    # a path in a .pth file brings packages, but not the editable installation of this project
    (site / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = folder / "bin" / "python"
    run(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        archives["wheel"],
        folder=folder,
    )
    return folder


@pytest.mark.parametrize("kind", ["bundles", "configs"])
def test_wheel_and_source_archive_hold_every_bundle_and_overlay(archives: dict[str, Path], kind: str) -> None:
    with zipfile.ZipFile(archives["wheel"]) as wheel:
        inside = {
            name.removeprefix("monai_difom/_shipped/")
            for name in wheel.namelist()
            if name.startswith(f"monai_difom/_shipped/{kind}/")
        }
        assert not [
            name for name in wheel.namelist() if name.split("/")[0] in ("tests", "benchmarks", "bundles")
        ]
    assert inside == source_files(kind)
    with tarfile.open(archives["sdist"]) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert source_files(kind) <= held


def test_wheel_and_source_archive_hold_every_file_of_the_package(archives: dict[str, Path]) -> None:
    package = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "monai_difom").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with zipfile.ZipFile(archives["wheel"]) as wheel:
        assert package <= set(wheel.namelist())
    with tarfile.open(archives["sdist"]) as archive:
        assert package <= {name.partition("/")[2] for name in archive.getnames()}


def test_an_installed_command_copies_a_bundle_that_monai_can_run(installed: Path, tmp_path: Path) -> None:
    command = installed / "bin" / "monai-difom"
    done = run(command, "init", "polyp_difom", "mine", folder=tmp_path)
    assert "python -m monai.bundle run training" in done.stdout
    assert (tmp_path / "mine/bundles/polyp_difom/configs/train.yaml").is_file()
    assert (tmp_path / "mine/configs/students/unetpp.yaml").is_file()
    check = (
        "import monai_difom; from monai.bundle import ConfigParser; from pathlib import Path; "
        "assert 'environment' in monai_difom.__file__, monai_difom.__file__; "
        "p = ConfigParser(); p.read_config('bundles/polyp_difom/configs/train.yaml'); "
        "print(type(p.get_parsed_content('network')).__name__)"
    )
    done = run(installed / "bin" / "python", "-c", check, folder=tmp_path / "mine")
    assert done.stdout.split()[-1] == "DifomUNet"


def test_an_installed_command_trains_from_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    make_polyps(tmp_path / "data" / "discs", train=6, test=2, size=32)
    (tmp_path / "empty").mkdir()
    small = [
        "image_size=32",
        "batch_size=4",
        "network_def#features=[4,4,8,8,8]",
        "train#trainer#max_epochs=1",
    ]
    done = run(
        *(installed / "bin" / "monai-difom", "train", tmp_path / "data" / "discs", "--structure", "disc"),
        *("--set", *small),
        folder=tmp_path / "empty",
    )
    (made,) = (tmp_path / "empty" / "runs").iterdir()
    assert (made / "bundle" / "models" / "model.pt").is_file()
    assert "Dice, synthetic" in done.stdout
    assert "<svg" in (made / "report.html").read_text(encoding="utf-8")
    assert str(made.name) in done.stdout
