"""Files are whole or absent, and reading one runs nothing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from monai_difom.utils import atomic_path, file_digest, load_state, replaced_folder, save_state, write_json
from monai_difom.utils.files import locked


class Trap:
    """Runs code when it is unpickled by a reader that runs code."""

    def __init__(self, witness: Path) -> None:
        self.witness = str(witness)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.witness,)


def _write_then_fail(path: Path) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt


def test_an_exception_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        _write_then_fail(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["scores.json"]


def test_a_file_appears_under_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "scores.json"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename is atomic within one file system only
    assert path.read_text() == "whole"
    assert os.listdir(path.parent) == ["scores.json"]


def test_a_file_has_the_rights_that_the_user_gives_to_new_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "ours", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == 0o640


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    with atomic_path(path) as first, atomic_path(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() in ("first", "second")
    assert os.listdir(tmp_path) == ["last.pt"]


def test_json_is_written_and_read_again(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"dice": 0.5, "sets": ["Kvasir"]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"dice": 0.5, "sets": ["Kvasir"]}


@pytest.mark.parametrize("name", ["weights.pt", "weights.pth", "weights.safetensors"])
def test_tensors_are_read_as_they_were_saved(tmp_path: Path, name: str) -> None:
    state = {"a": torch.rand(3), "b": torch.arange(4)}
    save = save_file if name.endswith("safetensors") else torch.save
    save(state, tmp_path / name)
    found = load_state(tmp_path / name)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)


def test_a_checkpoint_of_nested_dicts_is_read_as_it_was_saved(tmp_path: Path) -> None:
    save_state(tmp_path / "last.pt", {"epoch": 3, "network": {"w": torch.ones(2)}, "plan": ["warm-up", None]})
    found = load_state(tmp_path / "last.pt")
    assert (found["epoch"], found["plan"]) == (3, ["warm-up", None])
    assert torch.equal(found["network"]["w"], torch.ones(2))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_weight_file_is_refused_and_does_not_run(tmp_path: Path, zipped: bool) -> None:
    witness, file = tmp_path / "it_ran", tmp_path / "weights.pth"
    torch.save({"w": torch.ones(2), "x": Trap(witness)}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=r"weights\.pth is refused: it holds pickled .* \(posix\.mkdir\)"):
        load_state(file)
    assert not witness.exists()
    torch.load(file, weights_only=False)
    assert witness.exists()  # so the trap was armed


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 0.5, 0.98])
def test_a_truncated_file_is_refused_by_its_name(tmp_path: Path, name: str, keep: float) -> None:
    file = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)({"a": torch.rand(50)}, file)
    content = file.read_bytes()
    file.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(ValueError, match=rf"{name} is not a readable"):
        load_state(file)


@pytest.mark.parametrize(
    "content",
    [b"version https://git-lfs.github.com/spec/v1\n", b"<!DOCTYPE html>", b"\x80", b"\x80\x02}q\x00."],
)
def test_what_stands_where_a_download_failed_is_not_called_code(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.pth is not a readable weight file"):
        load_state(file)


@pytest.mark.parametrize("position", range(2, 60, 5))
def test_a_damaged_file_is_refused_by_its_name_or_read(tmp_path: Path, position: int) -> None:
    file = tmp_path / "weights.pt"
    torch.save({"a": torch.rand(3)}, file, _use_new_zipfile_serialization=False)
    content = bytearray(file.read_bytes())
    content[position] ^= 0x55
    file.write_bytes(bytes(content))
    try:
        load_state(file)
    except ValueError as error:
        assert str(file) in str(error)  # noqa: PT017 (not every damaged byte is noticed)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no weight file at .*absent\.pt\. Give the path"):
        load_state(tmp_path / "absent.pt")


def test_the_digest_is_sha_256_of_the_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000  # more than one block
    (tmp_path / "a").write_bytes(content)
    assert file_digest(tmp_path / "a") == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("older", [True, False])
def test_a_folder_that_cannot_take_its_place_leaves_the_older_one(older: bool, tmp_path: Path) -> None:
    target = tmp_path / "export"
    if older:
        target.mkdir()
        (target / "model.pt").write_text("old")
    with pytest.raises(FileNotFoundError), replaced_folder(target) as draft:
        shutil.rmtree(draft)  # there is nothing to rename any more
    assert os.listdir(tmp_path) == (["export"] if older else [])
    if older:
        assert (target / "model.pt").read_text() == "old"
    with replaced_folder(target) as draft:
        (draft / "model.pt").write_text("new")
    assert os.listdir(tmp_path) == ["export"]
    assert (target / "model.pt").read_text() == "new"


def test_a_lock_ends_with_its_process_though_one_that_it_forked_lives_on(tmp_path: Path) -> None:
    holding = """
import os, sys, time
from monai_difom.utils.files import locked
with locked(sys.argv[1]):
    if os.fork() == 0:
        os.write(1, b"forked\\n")
        time.sleep(10)
        os._exit(0)
    os.write(1, b"held\\n")
    time.sleep(60)
"""
    file = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", holding, str(file)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert {other.stdout.readline(), other.stdout.readline()} == {"held\n", "forked\n"}
        with locked(file, wait=False) as mine:
            assert not mine
        other.kill()
        other.wait()
        with locked(file, wait=False) as mine:
            assert mine
        other.stdout.close()
