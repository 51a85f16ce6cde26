"""Packages whose names are imported when they are asked for give the names that type checkers see."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from monai_difom.utils.lazy import lazy_names

PACKAGE = Path(__file__).parents[2] / "monai_difom"
LAZY = [file for file in sorted(PACKAGE.rglob("__init__.py")) if "lazy_names" in file.read_text()]


def name_of(file: Path) -> str:
    return ".".join(["monai_difom", *file.parent.relative_to(PACKAGE).parts])


def seen_by_type_checkers(file: Path) -> dict[str, str]:
    """Name -> module relative to the package, of the imports under ``TYPE_CHECKING``."""
    (block,) = (node for node in ast.parse(file.read_text()).body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {
        alias.name: "." * (node.level - 1) + (node.module or "") for node in imports for alias in node.names
    }


@pytest.mark.parametrize("file", LAZY, ids=name_of)
def test_a_lazy_package_gives_what_type_checkers_see_and_no_name_is_that_of_a_module(file: Path) -> None:
    package, seen = import_module(name_of(file)), seen_by_type_checkers(file)
    assert sorted(seen) == package.__all__
    assert set(seen) <= set(dir(package))
    beside = {entry.stem for entry in file.parent.iterdir()}
    assert not set(seen) & beside
    for name, module in seen.items():
        assert getattr(package, name) is getattr(import_module(f".{module}", name_of(file)), name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing_of_the_kind'"):
        _ = package.nothing_of_the_kind


def test_names_are_imported_when_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lazy_room").mkdir()
    (tmp_path / "lazy_room" / "heavy.py").write_text("first = second = 1\n")
    (tmp_path / "lazy_room" / "__init__.py").write_text(
        "from monai_difom.utils.lazy import lazy_names\n"
        "__getattr__, __dir__, __all__ = lazy_names(__name__, {'heavy': 'first second'})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    room = import_module("lazy_room")
    assert "lazy_room.heavy" not in sys.modules
    assert room.first == 1
    assert room.heavy is sys.modules["lazy_room.heavy"]
    get, _, names = lazy_names("lazy_room", {"heavy": "first second"})
    assert names == ["first", "second"]
    assert get("second") == 1


@pytest.mark.parametrize("package", [name_of(file) for file in LAZY])
def test_importing_a_lazy_package_imports_no_torch(package: str) -> None:
    code = f"import {package}, sys; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "monai", "ignite", "numpy"} & set(ran.stdout.split())
