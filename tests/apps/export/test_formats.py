"""One record says all of an export format: what writes and opens it, its file, what runs it, how far it may be off."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from monai_difom.__main__ import make_parser
from monai_difom.apps.deployed import openers
from monai_difom.apps.export import writers
from monai_difom.apps.export.formats import ENGINES, FORMATS, Format
from monai_difom.apps.export.model_card import extremes, gain_section
from tests.apps.runs.folders import write_scores, write_training

PACKAGE = Path(__file__).parents[3] / "monai_difom"
OWNER = PACKAGE / "apps" / "export" / "formats.py"


@pytest.mark.parametrize("form", FORMATS.values(), ids=lambda form: form.name)
def test_what_writes_and_opens_a_format_is_there(form: Format) -> None:
    for module, name in ((writers, form.writer), (openers, form.opener)):
        assert not name or callable(getattr(module, name))
    assert bool(form.writer) == bool(form.opener) == (form.name != "bundle")
    if form.use:
        package, call = form.use
        assert package.startswith("import ")
        assert form.file in call


def test_no_other_module_spells_a_formats_name_or_file() -> None:
    names = {form.name for form in FORMATS.values()} - {
        "bundle",
        "onnx",
        "openvino",
    }  # words of other meanings
    names |= {form.file for form in FORMATS.values()} | {Path(form.file).name for form in FORMATS.values()}
    owners = {OWNER, PACKAGE / "utils" / "weight_files.py"}
    for path in set(PACKAGE.rglob("*.py")) - owners:
        texts = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
        assert not names & texts, path


def test_the_command_line_names_every_format_and_engine() -> None:
    (verbs,) = (action for action in make_parser()._actions if action.dest == "verb")
    exported, predicted = (
        " ".join((verbs.choices or {})[v].format_help().split()) for v in ("export", "predict")
    )
    assert all(name in exported for name in FORMATS)
    assert f"{{{','.join(ENGINES)}}}" in predicted


def test_the_card_shows_the_worst_median_and_best_image_of_the_table() -> None:
    # the kinds say "one of the worst four": the card shows one of each, and it must be the one
    kinds = ["worst", "best", "worst", "median", "best"]
    entries = {f"{i}.png": {"kind": kind, "dice": 0.1, "jpeg": ""} for i, kind in enumerate(kinds)}
    scores = {"0.png": 0.3, "1.png": 0.7, "2.png": 0.2, "3.png": 0.5, "4.png": 0.9}
    found = {kind: dice for kind, _, dice in extremes({**entries, "5.png": {"dice": 1.0}}, scores)}
    assert found == {"worst": 0.2, "median": 0.5, "best": 0.9}
    assert [kind for kind, *_ in extremes({"a": entries["0.png"]}, {})] == ["worst"]
    assert extremes({}, {}) == []


def test_a_card_says_what_the_teachers_gave_where_the_run_has_a_control(tmp_path: Path) -> None:
    images = ["a.png", "b.png", "c.png"]
    for place, shift in ((tmp_path, 0.2), (tmp_path / "control", 0.0)):
        write_scores(place / "centre.csv", images, shift)
        write_training(place, ())
    assert "| centre | +0.200 (+0.200 to +0.200): better |" in gain_section(tmp_path)
    assert gain_section(tmp_path / "control") == ""
    assert gain_section(None) == ""
