"""One class knows which file of a run's folder is which, and nothing else spells their names."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from monai_difom.apps.runs.folder import RunError, RunFolder
from monai_difom.utils import weight_files

PACKAGE = Path(__file__).parents[3] / "monai_difom"
OWNERS = {PACKAGE / "apps" / "runs" / "folder.py", PACKAGE / "utils" / "weight_files.py"}
FILES = RunFolder("")
NAMES = [
    *(FILES.config, FILES.record, FILES.history, FILES.summary, FILES.evaluation, FILES.stage),
    *(weight_files.STATE, weight_files.STUDENT, weight_files.LAST_STUDENT),
]


def spelled(path: Path) -> set[str]:
    """Texts in a module that are one of the names, or a path that ends in one; messages and docstrings may speak of them."""
    name = "|".join(re.escape(str(name)) for name in NAMES)
    texts = (n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant))
    return {text for text in texts if isinstance(text, str) and re.fullmatch(rf"([\w.-]*/)*({name})", text)}


def test_the_names_of_a_runs_files_are_spelled_once() -> None:
    elsewhere = {str(p.relative_to(PACKAGE)): found for p in PACKAGE.rglob("*.py") if (found := spelled(p))}
    owners = {str(owner.relative_to(PACKAGE)) for owner in OWNERS}
    assert set(elsewhere) == owners, elsewhere


def test_weights_are_found_in_models_in_the_folder_itself_and_where_the_record_says(tmp_path: Path) -> None:
    run, away = RunFolder(tmp_path / "run"), tmp_path / "away"
    for folder in (run.models, away):
        folder.mkdir(parents=True)
    assert run.student() is None
    assert run.state() is None
    run.record.write_text(json.dumps({"checkpoints": str(away)}))
    for folder in (away, run.path, run.models):
        (folder / "model.pt").touch()
        assert run.student() == folder / "model.pt"
    assert run.state() is None
    for given in (run.path, run.models / "model.pt", run.path / "model.pt"):
        assert RunFolder.of(given).path == run.path


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.read(run.summary) is None
    run.summary.write_text("{")
    with pytest.raises(RunError, match=r"summary\.json is damaged"):
        run.read(run.summary)
