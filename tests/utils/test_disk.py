"""A full disk is said in one sentence, and what killed writers have left goes away."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from monai_difom.utils import atomic_path, replaced_folder, save_state, write_json
from monai_difom.utils.disk import DiskFullError, part_of, remove_all_leftovers, remove_leftovers

KILLED = """
import os, sys
from pathlib import Path
from monai_difom.utils import atomic_path, replaced_folder
with {writer}(Path(sys.argv[1])) as draft:
    (draft / "a" if draft.is_dir() else draft).write_text("half")
    {late}
    os.kill(os.getpid(), 9)
"""
# as it is between the two renames of `replaced_folder`
MOVED = (
    "from monai_difom.utils.disk import part_of; os.rename(sys.argv[1], part_of(Path(sys.argv[1]), 'old'))"
)


def without_space(monkeypatch: pytest.MonkeyPatch, free: int = 10) -> None:
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


def test_what_does_not_fit_is_refused_before_it_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "last.pt"
    save_state(file, {"a": torch.zeros(10)})
    before = file.read_bytes()
    without_space(monkeypatch, 1000)
    with pytest.raises(
        DiskFullError, match=r"last\.pt needs 40\d,\d+ bytes, 1,000 are free; what was there before"
    ):
        save_state(file, {"a": torch.zeros(100_000)})
    with pytest.raises(DiskFullError, match="nothing is written there"):
        save_state(tmp_path / "new" / "last.pt", {"a": torch.zeros(100_000)})
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.rglob("*.part")] == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 576 vs 534"),
    ],
)
def test_a_disk_that_fills_up_is_said_with_file_and_bytes(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(tmp_path / "run.json", {"old": True})

    def fails(writer: object, path: Path) -> None:
        with writer(path) as draft:  # type: ignore[operator]
            without_space(monkeypatch)
            (draft / "a" if draft.is_dir() else draft).write_text("x" * 5000)
            raise error

    for writer, name in ((atomic_path, "run.json"), (replaced_folder, "bundle")):
        with pytest.raises(DiskFullError, match=rf"{name} needs more than 5,000 bytes, 10 are free"):
            fails(writer, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json"]


def test_another_error_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="unexpected pos"), atomic_path(tmp_path / "a"):
        raise RuntimeError("unexpected pos 1 vs 2")


@pytest.mark.parametrize(
    ("writer", "late", "left"),
    [
        ("atomic_path", "", []),
        ("replaced_folder", "", ["target"]),
        ("replaced_folder", MOVED, ["target"]),
    ],
)
def test_what_a_killed_writer_left_is_removed_and_what_it_was_replacing_is_put_back(
    writer: str, late: str, left: list[str], tmp_path: Path
) -> None:
    target = tmp_path / "target"
    if left:
        target.mkdir()
        (target / "old").touch()
    code = KILLED.format(writer=writer, late=late)
    assert subprocess.run([sys.executable, "-c", code, str(target)], check=False).returncode == -9
    assert len(list(tmp_path.iterdir())) > len(left)
    mine = part_of(target)
    mine.touch()  # of a writer that lives
    remove_leftovers(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([mine.name, *left])
    assert not left or [path.name for path in target.iterdir()] == ["old"]
    remove_all_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_names_with_signs_of_patterns_are_no_patterns(tmp_path: Path) -> None:
    other = tmp_path / f".ab.{'0' * 6}-1-{'0' * 8}.part"
    other.touch()
    remove_leftovers(tmp_path / "[a]*")
    assert other.exists()
    assert os.listdir(tmp_path) == [other.name]
