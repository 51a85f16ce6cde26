"""What README and the docs tell a person to type works."""

from __future__ import annotations

import ast
import os
import re
import shlex
from pathlib import Path

import pytest
import timm
import torch
from monai.bundle import ConfigParser
from safetensors.torch import save_file

from monai_difom.__main__ import make_parser
from monai_difom.data import make_polyps

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "benchmarks").glob("*.md")),
]


def blocks(page: Path, language: str) -> list[str]:
    # all fences in turn: a search for one language takes the end of another's block for a beginning
    fences = re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    return [text for found, text in fences if found == language]


def page_commands(page: Path) -> list[list[str]]:
    """The words of every ``python -m`` command of a page, in order; one for several processes as one for one."""
    text = "\n".join(blocks(page, "")).replace("\\\n", " ")
    lines = [re.sub(r"^torchrun .*? -m ", "python -m ", line) for line in text.splitlines()]
    lines = [re.sub(r"^monai-difom ", "python -m monai_difom ", line) for line in lines]
    # shlex takes the # of an option (network_def#features) for a comment too
    return [shlex.split(re.sub(r"\s# .*", "", line)) for line in lines if line.startswith("python -m ")]


def bundle_commands() -> list[list[str]]:
    found = [words for page in PAGES for words in page_commands(page)]
    return [words for words in found if words[2:4] == ["monai.bundle", "run"]]


@pytest.mark.parametrize("words", bundle_commands(), ids=lambda words: " ".join(words[4:8])[:60])
def test_every_bundle_command_names_a_run_id_and_options_that_exist(words: list[str]) -> None:
    options = {words[i][2:]: words[i + 1] for i in range(len(words)) if words[i].startswith("--")}
    files = options["config_file"]
    paths = ast.literal_eval(files) if files.startswith("[") else [files]
    # a training writes its bundle's configurations from those of the bundle that it trains
    paths = [re.sub(r"^runs/\w+/bundle/", "bundles/polyp_difom/", path) for path in paths]
    # a file that the page itself shows: tests/test_docs.py writes it and runs the command
    paths = [path for path in paths if "/" in path]
    parser = ConfigParser()
    parser.read_config([str(ROOT / path) for path in paths])
    run_id = words[4] if not words[4].startswith("--") else "run"
    assert run_id in parser.get()
    assert not {name.split("#")[0] for name in options} - {"config_file", "tracking"} - set(parser.get())


def comment_commands() -> list[list[str]]:
    """The words of the command that an overlay or bundle shows in its first comment."""
    files = [*sorted((ROOT / "configs").rglob("*.yaml")), *sorted((ROOT / "bundles").rglob("train.yaml"))]
    texts = [re.sub(r"(?m)^# *", "", file.read_text()).replace("\\\n", " ") for file in files]
    return [
        shlex.split(line) for text in texts for line in text.splitlines() if line.startswith("python -m ")
    ]


def test_one_name_of_a_weight_file_stands_for_one_network_and_one_input() -> None:
    contracts: dict[str, set[str]] = {}
    for words in (*bundle_commands(), *verb_commands(), *comment_commands()):
        options = {words[i][2:]: words[i + 1] for i in range(len(words) - 1) if words[i].startswith("--")}
        if "teacher_weights" not in options or "config_file" not in options:
            continue
        files = options["config_file"]
        paths = ast.literal_eval(files) if files.startswith("[") else [files]
        parser = ConfigParser()
        parser.read_config([str(ROOT / path) for path in paths if "/" in path])
        parts = [parser.get("teacher_def"), *(parser.get("teachers") or {}).values()]
        found = next((p for p in parts if "@teacher_weights" in str(dict(p or {}).values())), None)
        if found is None:
            continue
        name, padding = found.get("name") or found["encoder"], found.get("encoder_arguments") or found
        contract = f"{name} {padding.get('pad_type')} {found.get('mean')} {found.get('std')}"
        contracts.setdefault(options["teacher_weights"], set()).add(
            contract.replace("@teacher_name", "mobilenetv2_100")
        )
    assert len(contracts) > 1
    assert {name: found for name, found in contracts.items() if len(found) > 1} == {}


def test_the_parts_in_python_train_a_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks(ROOT / "docs" / "python.md", "python")
    monkeypatch.chdir(tmp_path)
    make_polyps(tmp_path / "data" / "polyp", train=10, test=1, size=48)
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv2_100", pretrained=False, features_only=True)
    save_file(network.state_dict(), "mobilenetv2_100.safetensors")
    small = code.replace("size, epochs = 352, (8, 20, 12)", "size, epochs = 64, (1, 1, 1)")
    small = small.replace("batch_size=16", "batch_size=4").replace(
        "cuda.is_available()", "cuda.is_initialized()"
    )
    assert small != code
    exec(compile(small, "docs/python.md", "exec"), {})
    assert Path("runs/python/model.pt").is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_links_to_exists(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", ["README.md", "docs/get_started.md"])
def test_what_the_first_pages_install_is_enough_for_their_commands(page: str) -> None:
    """A newcomer installs what stands there and nothing else; an extra that a command needs is in it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    installed = re.search(r'^pip install "\.\[(.+)\]"$', text, re.M)
    assert installed is not None
    shown = "\n".join(blocks(ROOT / page, ""))
    needed = {"deploy": r"onnx|openvino", "video": r"\.mp4", "serve": r"monai-difom serve"}
    assert {extra for extra, words in needed.items() if re.search(words, shown)} <= {*installed[1].split(",")}


def test_every_make_target_of_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make ([a-z-]+)", text)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_ci_script_calls_the_test_command_and_the_checks() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "make test" in script
    assert "make check" in script
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def verb_commands() -> list[list[str]]:
    found = [words for page in PAGES for words in page_commands(page)]
    return [words for words in found if words[2] == "monai_difom" and words[3:] != ["--version"]]


@pytest.mark.parametrize("words", verb_commands(), ids=lambda words: " ".join(words[3:5]))
def test_every_verb_of_the_pages_takes_the_options_that_they_show(words: list[str]) -> None:
    options = vars(make_parser().parse_args(words[3:]))
    assert options["verb"] == words[3]


def test_the_python_of_the_page_on_structures_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks(ROOT / "docs" / "structures.md", "python")
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(compile(code, "docs/structures.md", "exec"), found)
    assert found["chain"](found["train"][0])["label"].shape == (12, 64, 64)
