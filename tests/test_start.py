"""What needs no network starts without torch, MONAI and Ignite; what is not there is said before they are imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_difom.__main__ import VERBS, make_parser
from monai_difom.apps.arguments import Existing

from .apps.runs.folders import write_scores

HEAVY = ("torch", "monai", "ignite", "transformers", "timm", "skimage", "scipy.stats")
PROGRAM = """
import json, sys
from monai_difom.__main__ import main
codes = [main(words) for words in json.loads(sys.argv[1])]
heavy = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
print(json.dumps([codes, heavy]))
"""


def started(
    words: list[list[str]], folder: Path, heavy: tuple[str, ...] = HEAVY
) -> tuple[list[int], list[str], str]:
    """Run commands in one fresh process; return their exit codes, what heavy was imported, and what they said of errors."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(words), json.dumps(heavy)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        check=True,
    )
    codes, imported = json.loads(ran.stdout.splitlines()[-1])
    return codes, imported, ran.stderr


def wrong_paths(verb: str) -> list[list[str]]:
    """A command for each argument of a verb that takes a path: this one leads nowhere, the others lead somewhere."""
    parser = make_parser()
    (verbs,) = (action for action in parser._actions if action.dest == "verb")
    actions = [action for action in verbs.choices[verb]._actions if action.dest != "help"]  # type: ignore[index, call-overload]
    commands = []
    for wrong in (action for action in actions if isinstance(action.type, Existing)):
        words = [verb]
        for action in actions:
            needed = action.required or action is wrong
            if needed and action.option_strings:
                words += [action.option_strings[0], "nowhere" if action is wrong else "."]
            elif needed:
                words.insert(1, "nowhere" if action is wrong else ".")
        commands.append([*words, *(["--format", "onnx"] if verb == "export" else [])])
    return commands


# verbs whose paths are looked at by themselves
OWN = {
    "compare": ["compare", "nowhere", "."],
    "evaluate": ["evaluate", "--predictions", "nowhere", "--masks", "."],
    "report": ["report", "nowhere"],
    "doctor": ["doctor", "nowhere"],
    "init": ["init", "nowhere"],
    "features": ["features", "estimate", "--config_file", "nowhere.yaml"],
}
PATHLESS = {"demo", "teachers"}


def test_every_verb_refuses_a_path_that_is_not_there_before_anything_heavy_is_imported(
    tmp_path: Path,
) -> None:
    commands = {
        verb: [OWN[verb]] if verb in OWN else wrong_paths(verb) for verb in VERBS if verb not in PATHLESS
    }
    assert all(commands.values()), "a verb without a wrong path to give it: add one to OWN or PATHLESS"
    words = [command for of_verb in commands.values() for command in of_verb]
    codes, imported, said = started(words, tmp_path)
    assert set(codes) <= {1, 2}
    assert not imported
    lines = said.strip().splitlines()
    assert len(lines) == len(words)
    for command, line in zip(words, lines, strict=True):
        assert line.startswith(command[0])
        assert "nowhere" in line


def test_what_is_there_but_is_no_model_run_or_store_is_refused_as_early(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    words = [
        ["predict", "--model", "empty", "--input", "a.png", "--output", "out"],
        ["predict", "--model", "a.png", "--input", "a.png", "--output", "out"],
        ["export", "--run", "empty", "--output", "out", "--format", "onnx"],
        ["export", "--run", "empty", "--output", "out.safetensors", "--encoder-only"],
        ["serve", "--model", "empty"],
        ["report", "empty"],
        ["compare", "empty", "empty"],
        ["evaluate", "--predictions", "empty", "--masks", "empty"],
        ["features", "info", "--feature_store", "a.png"],
    ]
    codes, imported, _ = started(words, tmp_path)
    assert set(codes) <= {1, 2}
    assert not imported
    assert not (tmp_path / "out").exists()


def test_evaluate_compare_and_report_need_none_of_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("maps", "masks"):
        (tmp_path / name).mkdir()
    for i in range(3):
        mask = np.zeros((20, 24), np.uint8)
        mask[4 : 10 + i, 5:15] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
        soft = np.clip(0.8 * mask + 50 * rng.random(mask.shape), 0, 255).astype(np.uint8)
        Image.fromarray(soft).save(tmp_path / "maps" / f"{i}.png")
    for run, shift in (("a", 0.0), ("b", 0.2)):
        write_scores(tmp_path / run / "test.csv", [f"/d/{i}.png" for i in range(4)], shift)
    words = [
        [
            "evaluate",
            "--predictions",
            "maps",
            "--masks",
            "masks",
            "--json",
            "means.json",
            "--csv",
            "scores.csv",
        ],
        ["compare", "a", "b", "--metric", "all", "--json", "compared.json"],
        ["report", "b", "--baseline", "a", "--output", "report.html"],
    ]
    codes, imported, said = started(words, tmp_path)
    assert codes == [0, 0, 0], said
    assert not imported
    assert json.loads((tmp_path / "means.json").read_text())["n"] == 3
    assert "HD95" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "room", ["monai_difom", "monai_difom.apps", "monai_difom.data", "monai_difom.metrics"]
)
def test_a_room_says_all_of_its_names_without_importing_them(room: str, tmp_path: Path) -> None:
    code = f"import sys, {room} as room; names = dir(room); print(len(names), 'torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    number, heavy = ran.stdout.split()
    assert int(number) > 10
    assert heavy == "False"
