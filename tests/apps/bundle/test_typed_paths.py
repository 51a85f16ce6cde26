"""A path on the command line is the path that a run uses, whatever Fire and MONAI would make of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from fire.parser import DefaultParseValue
from monai.bundle import ConfigWorkflow

from monai_difom.apps.bundle.typed_paths import is_path, typed_value
from monai_difom.utils.configurations import resolved
from monai_difom.utils.literals import literal, literal_text

ROOT = Path(__file__).parents[3]
CONFIG = {
    "output_dir": "runs",
    "ckpt_dir": "$@output_dir + '/models'",
    "dataset_dir": "data",
    "unlabelled": None,
    "initialize": ["$monai_difom.apps.check_overrides()"],
    "imports": ["$import monai_difom"],
    "run": ["$None"],
}
WORDS = [
    "run#2",
    "2024_01",
    "12",
    "1e3",
    "a,b",
    "run #2",
    "0x10",
    "@home",
    "a@b",
    "50%",
    "r[1]",
    "[x]",
    "{a}",
    "'q'x",
    "True#1",
    "a::b",
]


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str, **config: object) -> ConfigWorkflow:
    """What ``python -m monai.bundle run`` does with these words, up to the end of ``initialize``."""
    file = folder / "train.yaml"
    file.write_text(yaml.safe_dump({**CONFIG, **config}))
    monkeypatch.setattr(sys, "argv", ["/monai/bundle/__main__.py", "run", "--config_file", str(file), *words])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    pairs = dict(word[2:].partition("=")[::2] for word in words)
    given = {name: DefaultParseValue(value) for name, value in pairs.items()}
    workflow = ConfigWorkflow(str(file), workflow_type="train", logging_file=False, **given)
    workflow.initialize()
    return workflow


def cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


@pytest.mark.parametrize("word", WORDS)
def test_a_path_arrives_as_it_was_typed(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = run(tmp_path, monkeypatch, f"--output_dir={word}").parser
    assert parser.get_parsed_content("output_dir") == word
    assert parser.get_parsed_content("ckpt_dir") == f"{word}/models"
    written = tmp_path / "config.yaml"
    written.write_text(yaml.safe_dump(parser.get()))
    assert resolved(written, "output_dir") == word  # as a run's folder is read later


def test_home_is_the_persons_folder_and_a_reference_stays_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home#1"))
    parser = run(tmp_path, monkeypatch, "--output_dir=~/x", "--dataset_dir=@output_dir").parser
    assert parser.get_parsed_content("dataset_dir") == str(tmp_path / "home#1" / "x")
    parser = run(tmp_path, monkeypatch, "--dataset_dir=$@output_dir + '/y'", output_dir="~/z").parser
    assert parser.get_parsed_content("dataset_dir") == str(tmp_path / "home#1" / "z" / "y")


def test_lists_of_paths_and_nothing_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = run(tmp_path, monkeypatch, "--unlabelled=['a#1','2024_01']").parser
    assert parser.get_parsed_content("unlabelled") == ["a#1", "2024_01"]
    assert run(tmp_path, monkeypatch, "--unlabelled=None").parser.get_parsed_content("unlabelled") is None


def test_paths_by_name_arrive_as_they_were_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    words = "{'polyp':'runs/a#1','vessel':'~/2024_01'}"
    for name in ("soft_masks", "specialists"):
        parser = run(tmp_path, monkeypatch, f"--{name}={words}", **{name: None}).parser
        found = parser.get_parsed_content(name)
        assert found == {"polyp": "runs/a#1", "vessel": str(tmp_path / "home" / "2024_01")}


def test_numbers_by_name_are_no_paths_whatever_their_option_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"first": 1.5, "second": 2}
    typed = run(tmp_path, monkeypatch, f"--static_weights={weights}", static_weights=None).parser
    stored = run(tmp_path, monkeypatch, static_weights=weights).parser
    assert typed.get_parsed_content("static_weights") == weights
    assert stored.get_parsed_content("static_weights") == weights


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("data#2", "turns '#' into '::'"),
        (2024, "a number; it must be a path"),
        ({"polyp": "runs/a#2"}, "turns '#' into '::'"),
    ],
)
def test_a_path_that_a_file_cannot_say_is_refused(
    value: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError) as caught:
        run(tmp_path, monkeypatch, dataset_dir=value)
    assert message in cause(caught.value)


def test_a_number_for_a_folder_of_soft_masks_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError) as caught:
        run(tmp_path, monkeypatch, soft_masks={"polyp": 2024})
    assert "a number; it must be a path" in cause(caught.value)


def test_options_that_are_no_paths_are_read_as_before() -> None:
    assert typed_value("image_size", "[64, 96]") == [64, 96]
    assert typed_value("epochs", "3") == 3
    assert typed_value("mask_suffix", "_1") == "_1"


def test_a_text_that_configurations_change_has_an_expression_that_is_it() -> None:
    for text in ("a#b", "@x", "$y", "%z", "it's #1", 'say "#"', "back\\slash#"):
        found = literal(text)
        assert found.startswith("$")
        assert not set("#@%") & set(found[1:])
        assert literal_text(found) == text
    assert literal("plain") == "plain"
    assert literal_text("$open('x')") is None
    assert literal_text("$'a' + 'b'") is None


def test_every_option_that_names_a_file_or_folder_is_known_as_a_path() -> None:
    files = [*ROOT.glob("bundles/*/configs/*.yaml"), *ROOT.glob("configs/**/*.yaml")]
    names = {str(name) for file in files for name in yaml.safe_load(file.read_text()) or {}}
    likely = {
        name for name in names if name.endswith(("_dir", "_file", "_weights", "_root", "_store", "_bundle"))
    }
    assert likely | {"resume", "unlabelled", "soft_masks", "deployed"} <= {
        name for name in names if is_path(name)
    }
