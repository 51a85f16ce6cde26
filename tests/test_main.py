"""The command line starts at once, and says what is wrong."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from monai_difom import __main__ as command

IMPORT = """
import sys, time
begun = time.perf_counter()
import {module}
seconds = time.perf_counter() - begun
assert "torch" not in sys.modules and "monai" not in sys.modules
print(seconds)
"""
HELP = """
import sys, time
begun = time.perf_counter()
from monai_difom.__main__ import main
try:
    main([{arguments}])
except SystemExit as stop:
    assert stop.code == 0
assert "torch" not in sys.modules and "monai" not in sys.modules
print(time.perf_counter() - begun)
"""


def best_of_three(code: str) -> float:
    """Run code in fresh interpreters and return the lowest of the seconds that it prints last."""
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(3)
    ]
    return min(float(run.stdout.splitlines()[-1]) for run in runs)


def test_the_package_root_is_light() -> None:
    assert best_of_three(IMPORT.format(module="monai_difom")) < 0.05


@pytest.mark.parametrize("arguments", ["'--help'", "'demo', '--help'", "'evaluate', '--help'", "'--version'"])
def test_help_needs_no_heavy_import(arguments: str) -> None:
    assert best_of_three(HELP.format(arguments=arguments)) < 1


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--help"])
    out = capsys.readouterr().out
    assert all(verb in out for verb in command.VERBS)


def test_an_unknown_verb_names_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command.main(["dmo"])
    assert stop.value.code == 2
    assert "'demo'" in capsys.readouterr().err


def test_every_verb_leads_to_a_function_that_takes_its_arguments() -> None:
    import argparse
    import inspect
    from importlib import import_module

    for _, add_arguments, target in command.VERBS.values():
        module, name = target.split(":")
        parser = argparse.ArgumentParser(add_help=False)
        add_arguments(parser)
        given = {action.dest: None for action in parser._actions}
        inspect.signature(getattr(import_module(module), name)).bind(**given)


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(**_options: object) -> int:
        raise KeyboardInterrupt("All is kept.")

    monkeypatch.setattr(command, "import_module", lambda _name: SimpleNamespace(run_demo=interrupted))
    assert command.main(["demo"]) == 130
    assert capsys.readouterr().err == "\nInterrupted: demo stopped. All is kept.\n"


@pytest.mark.parametrize(
    "words",
    [
        "predict --model a --input b --output c --threshold 2",
        "predict --model a --input b --output c --threshold=-1",
        "predict --model a --input b --output c --threshold nan",
        "predict --model a --input b --output c --pixel-limit 0",
        "export --bundle a --output b --format onnx --limit 0",
        "export --bundle a --output b --format onnx --limit all",
        "serve --model a --port 99999",
        "serve --model a --upload-limit inf",
        "evaluate --predictions a --masks b --spacing 0",
        "evaluate --predictions a --masks b --workers 1.5",
        "autolabel --teacher a --images b --output c --views 9",
    ],
)
def test_numbers_out_of_range_are_refused_with_the_range_and_an_example(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(words.split())
    assert ended.value.code == 2
    assert re.search(r"was given; allowed is a .*number.*\. Give, for example, \d", capsys.readouterr().err)


def test_an_option_of_several_values_that_is_given_twice_has_all_of_them() -> None:
    parser = command.make_parser()
    (verbs,) = (action for action in parser._actions if action.dest == "verb")
    assert isinstance(verbs, argparse._SubParsersAction)
    seen = 0
    for name, child in verbs.choices.items():
        kinds = [action for action in child._actions if action.option_strings and action.nargs in ("+", "*")]
        for action in kinds:
            value = str((action.choices or ["7"])[0])
            namespace = argparse.Namespace(**{action.dest: action.default})
            for _ in range(2):
                action(child, namespace, [value], action.option_strings[0])
            assert getattr(namespace, action.dest) == [value, value], f"{name} {action.option_strings[0]}"
            seen += 1
    assert seen >= 10
    given = parser.parse_args(["train", "data", "--set", "a=1", "--set", "b=2", "c=3"])
    assert given.set_values == ["a=1", "b=2", "c=3"]
    assert parser.parse_args(["train", "data"]).set_values == []
