"""Imports run downward only (CONTRIBUTING, "How the code is laid out")."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "monai_difom"
ROWS = [
    ("apps", "__main__.py"),
    ("engines", "handlers"),
    ("targets", "data", "transforms"),
    ("networks/teachers", "networks/nets"),
    (
        "networks/blocks",
        "networks/encoders.py",
        "networks/lora.py",
        "networks/student.py",
        "networks/taps.py",
        "networks/weights.py",
    ),
    ("losses", "metrics", "utils", "zoo"),
]
MODULES = [
    path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE or path.name == "__main__.py"
]


def row(place: str) -> int | None:
    for number, names in enumerate(ROWS):
        if any(place == name or place.startswith(name + "/") for name in names):
            return number
    return None


def imports(path: Path) -> set[str]:
    """Places inside the package that a module imports, as slashed paths."""
    found = set()
    here = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1]
            module = "/".join([*base, *(node.module or "").split(".")]).strip("/")
            found |= {module} if node.module else {"/".join([*base, name.name]) for name in node.names}
    return {place + ".py" if (PACKAGE / (place + ".py")).exists() else place for place in found if place}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_its_own_row_and_those_below(path: Path) -> None:
    own = row(str(path.relative_to(PACKAGE)))
    if own is None:  # networks/__init__.py only gathers its folders
        return
    for place in imports(path):
        other = row(place)
        assert other is None or other >= own, f"{path.name} imports {place} of a row above"


def test_no_class_has_a_name_of_monai() -> None:
    import monai.losses
    import monai.metrics
    import monai.networks.nets
    import monai.transforms

    theirs = {
        name
        for room in (monai.losses, monai.metrics, monai.networks.nets, monai.transforms)
        for name in dir(room)
    }
    ours = {
        n.name
        for path in MODULES
        for n in ast.walk(ast.parse(path.read_text()))
        if isinstance(n, ast.ClassDef)
    }
    assert not ours & theirs
