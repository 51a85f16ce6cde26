"""A run's folder is one training's at a time, and what it holds is not lost by mistake."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from monai_difom.apps import claim_run, release_runs
from monai_difom.apps.runs.claim import LOCK, claim_of, close_records, interrupted
from monai_difom.apps.runs.folder import RunError
from monai_difom.utils import save_state, write_json

HOLDING = """
import os, sys, time
from monai_difom.apps import claim_run
claim_run(sys.argv[1], sys.argv[1] + "/models")
if len(sys.argv) > 2 and os.fork() == 0:
    time.sleep(60)  # as a loader's process, which outlives a kill for a while
    os._exit(0)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _free() -> Iterator[None]:
    yield
    release_runs()


def run(folder: Path, status: str = "finished", checkpoint: bool = True) -> Path:
    """What a training of two test sets leaves."""
    record = {"status": status, "seed": 3, "sessions": [{"started": "2024-05-01T10:00:00+00:00"}]}
    write_json(folder / "run.json", record)
    (folder / "models").mkdir()
    if checkpoint:
        save_state(folder / "models" / "last.pt", {"epoch": 1})
    (folder / "Old.csv").write_text("image,dice\na.png,0.5\n")
    (folder / "mine.csv").write_text("a,b\n1,2\n")
    write_json(folder / "summary.json", {})
    write_json(folder / "examples" / "Old.json", {})
    (folder / "bundle" / "models").mkdir(parents=True)
    (folder / "bundle" / "models" / "model.pt").touch()
    return folder


def claim(folder: Path, **options: object) -> None:
    claim_run(folder, folder / "models", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "words"), [("finished", "a finished training"), ("failed", "a failed"), ("running", "an unfinished")]
)  # fmt: skip
def test_a_folder_that_holds_a_training_is_refused_with_the_options(
    status: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "run", status)
    with pytest.raises(
        RunError, match=rf"run holds {words}.*seed 3.*--resume run/models/last\.pt.*--overwrite True"
    ):
        claim(tmp_path / "run")
    claim(tmp_path / "run", resume=tmp_path / "run" / "models" / "last.pt")
    claim(tmp_path / "run", resume="run")


@pytest.mark.parametrize(
    "left", ["models/last.pt", "models/model.pt", "Old.csv", "summary.json", "bundle/models/model.pt"]
)
def test_any_result_of_a_training_is_noticed(left: str, tmp_path: Path) -> None:
    file = tmp_path / left
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("image,dice\n")
    with pytest.raises(RunError, match="would be lost"):
        claim(tmp_path)


def test_where_nothing_would_be_lost_nothing_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"status": "running"})  # killed before its first checkpoint
    (tmp_path / "mine.csv").write_text("a,b\n")
    (tmp_path / "bundle" / "configs").mkdir(parents=True)  # a bundle that is trained, not one that was
    (tmp_path / "bundle" / "models").mkdir()
    (tmp_path / "bundle" / "models" / "model.pt").touch()
    (tmp_path / "bundle" / "configs" / "train.yaml").write_text("run: [$monai_difom.apps.claim_run()]")
    claim(tmp_path)


def test_another_runs_checkpoint_does_not_make_a_folder_free(tmp_path: Path) -> None:
    run(tmp_path / "a")
    run(tmp_path / "b")
    with pytest.raises(RunError, match="would be lost"):
        claim(tmp_path / "b", resume=tmp_path / "a" / "models" / "last.pt")
    claim(tmp_path / "c", resume=tmp_path / "a" / "models" / "last.pt")
    with pytest.raises(RunError, match=r"overwrite is 'yes'; allowed are True and False"):
        claim(tmp_path / "b", overwrite="yes")


def test_overwriting_removes_all_of_the_earlier_training_and_only_when_the_new_one_begins(
    tmp_path: Path,
) -> None:
    run(tmp_path)
    events = tmp_path / "tensorboard" / "events.old"
    events.parent.mkdir()
    events.touch()
    os.utime(events, (1, 1))
    before = sorted(tmp_path.rglob("*"))
    claim(tmp_path, overwrite=True)
    assert sorted(p for p in tmp_path.rglob("*") if p.name != LOCK) == before
    (tmp_path / "tensorboard" / "events.new").touch()
    begun = claim_of(tmp_path)
    assert begun is not None
    begun.begin()
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file() and p.name != LOCK)
    assert left == ["mine.csv", "tensorboard/events.new"]


@pytest.mark.parametrize("end", ["kill", "kill with a loader", "release"])
def test_two_trainings_exclude_each_other_and_a_dead_ones_lock_is_taken_over(
    end: str, tmp_path: Path
) -> None:
    words = [sys.executable, "-c", HOLDING, str(tmp_path), *(["fork"] if end == "kill with a loader" else [])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(
            RunError, match=rf"being trained in by process {other.pid} on {socket.gethostname()}, since"
        ):
            claim(tmp_path)
        other.send_signal(signal.SIGKILL if end != "release" else signal.SIGTERM)
        other.wait()
        claim(tmp_path)
        other.stdout.close()
    claim(tmp_path)  # of the same process again
    assert json.loads((tmp_path / LOCK).read_text())["process"] == os.getpid()
    release_runs()
    assert not (tmp_path / LOCK).exists()


def test_a_lock_of_another_machine_is_told_apart_from_a_stale_one(tmp_path: Path) -> None:
    about = {"host": "elsewhere", "process": 7, "started": "2024-05-01T10:00:00+00:00"}
    (tmp_path / LOCK).write_text(json.dumps(about))
    with pytest.raises(RunError, match=rf"process 7 on elsewhere, since 2024.*remove .*{LOCK}"):
        claim(tmp_path)
    (tmp_path / LOCK).write_text(json.dumps({**about, "host": socket.gethostname()}))
    claim(tmp_path)


def test_drafts_of_killed_writers_are_removed(tmp_path: Path) -> None:
    for name in (
        ".last.pt.0123abcd.part",
        "models/.last.pt.ffffff-1-01234567.part",
        "examples/.a.json.1.part",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    claim(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [LOCK]


def test_a_run_says_how_it_ended_and_how_to_go_on(tmp_path: Path) -> None:
    claim(tmp_path)
    assert "before the first checkpoint" in interrupted()
    begun = claim_of(tmp_path)
    assert begun is not None
    begun.begin()
    write_json(tmp_path / "run.json", {"status": "running", "sessions": [{}]})
    close_records("failed", "ValueError: no")
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["status"], record["reason"]) == ("failed", "ValueError: no")
    save_state(tmp_path / "models" / "last.pt", {})
    assert interrupted().endswith("models/last.pt")


@pytest.mark.parametrize("part", ["run", "run/control"])
def test_what_the_verb_train_began_goes_on_with_that_verb(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / part
    (folder / "source" / "configs").mkdir(parents=True)
    (folder / "source" / "configs" / "train.yaml").write_text("a: 1")
    claim(folder)
    save_state(folder / "models" / "last.pt", {})
    assert interrupted() == "Interrupted. To go on: monai-difom train --resume run"


def test_a_command_that_fails_before_it_begins_leaves_the_record_of_another(tmp_path: Path) -> None:
    run(tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    claim(tmp_path, overwrite=True)
    close_records("failed", "no")
    assert (tmp_path / "run.json").read_bytes() == before


ENDING = """
import sys, time
from pathlib import Path
sys.argv = ["site-packages/monai/bundle/__main__.py", "run", *sys.argv[2:]]
from monai_difom.apps import claim_run
from monai_difom.apps.bundle.command_line import end_with_cause
from monai_difom.apps.runs.claim import claim_of
from monai_difom.utils import save_state, write_json
sys.excepthook = end_with_cause
claim_run("run", "run/models")
claim_of("run").begin()
write_json("run/run.json", {"status": "running", "sessions": [{}]})
save_state("run/models/last.pt", {})
print("begun", flush=True)
{act}
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_is_stopped_ends_with_one_line_that_says_how_to_go_on(
    number: int, tmp_path: Path
) -> None:
    words = [sys.executable, "-c", ENDING.replace("{act}", "time.sleep(60)"), "x"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, cwd=tmp_path, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        assert process.stderr.read().strip() == (
            "Interrupted. To go on: the same command with --resume run/models/last.pt"
        )
        assert process.wait() == 128 + number
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["reason"]) == ("interrupted", "stopped by a signal")
    assert not (tmp_path / "run" / LOCK).exists()


@pytest.mark.parametrize(
    ("act", "told", "asked", "traced"),
    [
        ("raise ValueError('image_size is 0')", "ValueError: image_size is 0", False, False),
        ("raise ValueError('image_size is 0')", "ValueError: image_size is 0", True, True),
        ("raise OSError('the disk is full')", "OSError: the disk is full", False, False),
        ("raise FloatingPointError('not finite')", "FloatingPointError: not finite", False, False),
        ("raise KeyError('a mistake of the program')", "KeyError: 'a mistake of the program'", False, True),
    ],
)
def test_an_error_of_a_person_shows_no_traceback_unless_it_is_asked_for(
    act: str, told: str, asked: bool, traced: bool, tmp_path: Path
) -> None:
    words = [
        sys.executable,
        "-c",
        ENDING.replace("{act}", act),
        "x",
        *(["--traceback", "True"] if asked else []),
    ]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert told in done.stderr
    assert ("Traceback" in done.stderr) is traced
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["reason"]) == ("failed", told)
