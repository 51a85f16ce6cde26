"""Imports run downward only, and never in a circle (CONTRIBUTING, "How the code is laid out")."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "monai_difom"
MOST_FILES = 22
ROWS = [
    ("apps", "__main__.py"),
    ("engines", "handlers"),
    ("targets", "data", "transforms"),
    ("networks/teachers", "networks/nets"),
    (
        "networks/blocks",
        "networks/definition.py",
        "networks/encoders.py",
        "networks/hub_access.py",
        "networks/inherit.py",
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


def modules_imported(path: Path) -> set[Path]:
    """Files of the package that a module imports, in functions and for types only as well; a folder is its __init__."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*filter(None, (node.module or "").split(".")))
            places = [base / name.name for name in node.names]
            found |= {place if _file(place) else base for place in places}
    return {file for place in found if (file := _file(place)) and file != path}


def _file(place: Path) -> Path | None:
    return next(
        (f for f in (place.with_name(f"{place.name}.py"), place / "__init__.py") if f.is_file()), None
    )


def test_no_modules_import_each_other_in_a_circle() -> None:
    left = {path: modules_imported(path) for path in PACKAGE.rglob("*.py")}
    while left:
        wanted = set().union(*left.values())
        circles = {path: needed & left.keys() for path, needed in left.items() if path in wanted}
        kept = {path: needed for path, needed in circles.items() if needed}
        if kept == left:
            break
        left = kept
    assert not {str(p.relative_to(PACKAGE)): sorted(q.name for q in needed) for p, needed in left.items()}


def test_no_folder_holds_more_files_than_a_reader_takes_in() -> None:
    for root in (PACKAGE, Path(__file__).parent):
        for folder in (root, *(place for place in root.rglob("*") if place.is_dir())):
            files = len(list(folder.glob("*.py")))
            assert files <= MOST_FILES, (
                f"{folder.relative_to(root.parent)} holds {files} Python files, more than {MOST_FILES}: "
                "give those that belong together a folder of their own"
            )


def test_no_class_that_torchscript_compiles_has_postponed_annotations() -> None:
    for path in (PACKAGE / "networks").rglob("*.py"):
        tree = ast.parse(path.read_text())
        postponed = any(isinstance(n, ast.ImportFrom) and n.module == "__future__" for n in tree.body)
        for node in ast.walk(tree) if postponed else ():
            if isinstance(node, ast.ClassDef) and any("Module" in ast.unparse(base) for base in node.bases):
                annotated = [
                    ast.unparse(part.target) for part in node.body if isinstance(part, ast.AnnAssign)
                ]
                assert not annotated, f"{path.name}: TorchScript reads {node.name}.{annotated} as text"


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
