"""YAML and JSON of unknown origin are plain data, or refused fast."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from monai_difom.utils.configurations import resolved
from monai_difom.utils.documents import DEPTH_LIMIT, parse_json, parse_yaml, read_json, read_yaml

BOMB = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)
YAML = {
    "aliases that unfold to a billion values": (BOMB, "unfolds to more than"),
    "an alias of what it is in": ("a: &a [*a]", "names nothing before it, or itself"),
    "an alias of nothing": ("a: *b", "names nothing before it"),
    "an object by a tag": ("a: !!python/object/apply:os.system ['touch evil']", "python/object/apply"),
    "a tag of its own": ("a: !evil 1", "the tag !evil"),
    "a tag on a mapping": ("a: !evil {b: 1}", "the tag !evil"),
    "bytes": ("a: !!binary aGVsbG8=", "binary"),
    "a set": ("a: !!set {b, c}", "the tag"),
    "a merge": ("a: &a {b: 1}\nc: {<<: *a}", "merges mappings"),
    "deep lists": ("[" * 900, f"deeper than {DEPTH_LIMIT}"),
    "endless lists": ("[" * 1_000_000, "nesting depth"),
    "endless mappings": ("{a: " * 500_000, "nested deeper|nesting depth"),
    "deep blocks": ("\n".join(" " * i + "a:" for i in range(1000)), f"deeper than {DEPTH_LIMIT}"),
    "a key twice": ("a: 1\nb: 2\na: 3", "the key 'a' is there twice"),
    "a key twice by an alias": ("&k a: 1\n*k : 2", "the key 'a' is there twice"),
    "a list as a key": ("? [a]\n: 1", "a key is a list"),
    "an alias of a list as a key": ("x: &x [a]\n*x : 1", "a key is a list"),
    "two documents": ("a: 1\n---\nb: 2", "several documents"),
    "a huge file": ("a: " + "x" * 5_000_000, "larger than 4 MB"),
    "many values": ("[" + "1," * 200_000 + "1]", "more than 100,000 values"),
    "a number of many digits": ("a: " + "9" * 50_000, "digits"),
    "a control character": ("a: \x07", "not valid YAML"),
    "half a file": ("a: [1, 2", "not valid YAML"),
}
JSON = {
    "deep lists": ("[" * 100_000, "deeper than"),
    "lists deeper than the limit": ("[" * 100 + "]" * 100, "deeper than"),
    "a key twice": ('{"a": 1, "a": 2}', "the key 'a' is there twice"),
    "a huge file": ('"' + "x" * 5_000_000 + '"', "larger than 4 MB"),
    "many values": ("[" + "1," * 200_000 + "1]", "more than 100,000 values"),
    "a number of many digits": ("9" * 50_000, "digits"),
    "half a file": ('{"a": [1, 2', "not valid JSON"),
    "nothing": ("", "not valid JSON"),
}


def refused_fast(read: object, text: str, message: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(ValueError, match=message) as refused:
        read(text, "given.file")  # type: ignore[operator]
    assert "given.file" in str(refused.value)
    assert len(str(refused.value)) < 1000
    assert time.perf_counter() - begun < 3


@pytest.mark.parametrize("kind", YAML)
def test_yaml_that_could_cost_or_run_something_is_refused_fast(kind: str) -> None:
    refused_fast(parse_yaml, *YAML[kind])


@pytest.mark.parametrize("kind", JSON)
def test_json_that_could_cost_something_is_refused_fast(kind: str) -> None:
    refused_fast(parse_json, *JSON[kind])


def test_ordinary_yaml_is_read_as_pyyaml_reads_it() -> None:
    text = """
    # as bundles have it
    a: [1, 2.5, .inf, -0x1F, 1e-4, 1.0e-4, yes, "yes", null, ~, '']
    1: {b: &b {c: [x, 'y z']}, d: *b}
    text: |
      two
      lines
    empty:
    tagged: !!str 5
    """
    expected = yaml.safe_load(text)
    assert parse_yaml(text, "t") == expected
    found = parse_yaml(text, "t")
    assert found[1]["b"] is not found[1]["d"]
    assert parse_yaml("day: 2024-01-02", "t") == {"day": "2024-01-02"}  # JSON can hold it
    assert parse_yaml("", "t") is None


@pytest.mark.parametrize(
    "config", sorted(Path(__file__).parents[2].glob("*/**/*.yaml")), ids=lambda p: p.name
)
def test_every_configuration_of_the_project_is_read_as_pyyaml_reads_it(config: Path) -> None:
    assert read_yaml(config) == yaml.safe_load(config.read_text())


def test_files_that_are_no_text_or_not_there_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"a\.json is damaged: it is no text"):
        read_json(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError, match=r"no file .*b\.yaml"):
        read_yaml(tmp_path / "b.yaml")


TEN = "a{0}: ['@a{1}', '@a{1}', '@a{1}', '@a{1}', '@a{1}', '@a{1}', '@a{1}', '@a{1}', '@a{1}', '@a{1}']\n"
GROWING = "".join(TEN.format(i, i - 1) for i in range(1, 9)) + "a0: 1\nnet: '@a8'"


def config(folder: Path, text: str) -> Path:
    file = folder / "inference.yaml"
    file.write_text(text)
    return file


def test_references_are_filled_in_and_expressions_stay_text(tmp_path: Path) -> None:
    file = config(
        tmp_path,
        "sizes: {side: 64, all: [1, 2]}\nside: '@sizes::side'\nnet: {a: '@side', b: '@sizes#all#1', c: '$1 + @side', d: '%side'}",
    )
    assert resolved(file, "net") == {"a": 64, "b": 2, "c": "$1 + @side", "d": "%side"}
    assert resolved(file, "net::a") == 64
    assert resolved(file, "nothing") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("net: '@net'", "refers to itself"),
        ("net: '@a'\na: ['@b']\nb: '@a'", "refers to itself"),
        ("net: {a: '@gone'}", "which the file does not have"),
        (GROWING, "unfold without end"),
        ("[1]", "not a mapping"),
    ],
)
def test_references_that_end_nowhere_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        resolved(config(tmp_path, text), "net")
