"""What is sealed reads installed packages, and nothing else of this machine or another."""

from __future__ import annotations

import ctypes
import importlib
import os
import pickle
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from monai_difom.utils.sealed import SealedError, sealed

ACTS: dict[str, Callable[[Path], object]] = {
    "read": lambda f: f.read_text(),
    "write": lambda f: f.with_name("evil").write_text("x"),
    "read low": lambda f: os.open(f, os.O_RDONLY),
    "write into a package": lambda f: open(Path(os.__file__).with_name("evil.txt"), "w"),  # noqa: SIM115
    "command": lambda f: os.system("touch evil"),
    "process": lambda f: subprocess.run(["touch", "evil"], check=True),
    "remove": lambda f: f.unlink(),
    "rename": lambda f: f.rename(f.with_name("evil")),
    "folder": lambda f: f.with_name("evil").mkdir(),
    "tree": lambda f: shutil.rmtree(f.parent),
    "connect": lambda f: socket.create_connection(("127.0.0.1", 9)),
    "fetch": lambda f: urllib.request.urlopen(f.as_uri()),
    "unpickle": lambda f: pickle.loads(pickle.dumps(Path("x"))),
    "library": lambda f: ctypes.CDLL(str(f)),
}


@pytest.mark.parametrize("name", ACTS)
def test_a_sealed_block_does_none_of_this(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file"
    file.write_text("secret")
    with sealed(), pytest.raises((SealedError, OSError)):
        ACTS[name](file)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_text() == "secret"  # outside it is as before


def test_a_sealed_block_imports_modules() -> None:
    sys.modules.pop("colorsys", None)
    with sealed():
        assert importlib.import_module("colorsys").rgb_to_hsv(0, 0, 0) == (0, 0, 0)
