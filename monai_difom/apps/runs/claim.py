"""A run's folder is one training's at a time, and what it holds is not lost by mistake."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from ...utils import write_json
from ...utils.disk import remove_all_leftovers
from ...utils.documents import read_json
from ...utils.files import close_in_forks
from ...utils.weight_files import BUNDLE_WEIGHTS, LAST_STUDENT, STATE, STATE_BEFORE, STUDENT
from .folder import RunError, RunFolder

LOCK = "training.lock"
TRAIN = "monai_difom.apps.claim_run"  # what a configuration that trains from images has


class Claim:
    """A folder that this process trains in.

    Args:
        output_dir: the run's folder.
        ckpt_dir: folder of its checkpoints.
        overwrite: what an earlier training left is removed when this one begins.
    """

    def __init__(self, output_dir: Path, ckpt_dir: Path, overwrite: bool) -> None:
        self.files, self.checkpoints, self.overwrite = RunFolder(output_dir), ckpt_dir, overwrite
        self.since = time.time() - 1  # clocks of disks are coarse
        self.recorded = False

    @property
    def state(self) -> Path:
        """The training state, to resume from."""
        return self.checkpoints / STATE

    def begin(self) -> None:
        """Remove what an earlier training left, where that was asked for; to be called when everything has been checked."""
        self.recorded = True
        for path in list(self._earlier()) if self.overwrite else ():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _earlier(self) -> Iterator[Path]:
        files = self.files
        for path in (*_weights(self.checkpoints), *_results(files)):
            if path.exists():
                yield path
        # what this process has opened already stays: the event file of its own curves
        for folder in (files.path / "tensorboard", files.path / "pictures"):
            yield from (p for p in folder.rglob("*") if p.is_file() and p.stat().st_mtime < self.since)


def _weights(folder: Path) -> list[Path]:
    return [folder / name for name in (STATE, STATE_BEFORE, STUDENT, LAST_STUDENT)]


def _results(files: RunFolder) -> list[Path]:
    """What a training leaves beside its weights, at its end or on the way."""
    single = [files.record, files.history, files.summary, files.evaluation, files.report]
    return [*single, *_bundle(files), *filter(_has_scores, files.tables()), *files.examples()]


def _bundle(files: RunFolder) -> list[Path]:
    """The trained bundle; not one that is trained, whatever its folder is called."""
    bundle = files.bundle
    trains = TRAIN in _text(bundle / "configs" / "train.yaml")
    return [bundle] if (bundle / BUNDLE_WEIGHTS).is_file() and not trains else []


def _has_scores(table: Path) -> bool:
    columns = _text(table, 4096).partition("\n")[0].split(",")
    return "image" in columns and "dice" in [column.strip() for column in columns]


def _text(file: Path, size: int = -1) -> str:
    if not file.is_file():
        return ""
    with open(file, encoding="utf-8", errors="replace") as stream:
        return stream.read(size)


_claims: dict[Path, Claim] = {}
_locks: dict[Path, IO[str]] = {}
_ended: list[Claim] = []  # those that were given back last


def claim_run(
    output_dir: str | os.PathLike,
    ckpt_dir: str | os.PathLike,
    resume: str | os.PathLike | None = None,
    overwrite: bool = False,
    resumes: bool = False,
) -> None:
    """Take a folder for a training of this process; for the first lines of ``initialize``.

    Of several processes of one run the first takes it.

    Args:
        output_dir: the run's folder.
        ckpt_dir: folder of its checkpoints.
        resume: checkpoint to go on from, or empty.
        overwrite: remove what an earlier training left, when this one begins.
        resumes: the training finds by itself what it did before, and needs no option for it.

    Raises:
        RunError: the folder holds a training and neither ``resume`` nor ``overwrite`` says what to do with it, or another
            process trains in it.
    """
    if int(os.environ.get("RANK", 0)):
        return
    output, checkpoints = Path(output_dir).expanduser().resolve(), Path(ckpt_dir).expanduser().resolve()
    if not isinstance(overwrite, bool):
        raise RunError(f"overwrite is {overwrite!r}; allowed are True and False.")
    if not overwrite and not resumes:
        check_free(output, checkpoints, resume)
    places = [output] if checkpoints.is_relative_to(output) else [output, checkpoints]
    for place in places:
        _lock(place)
        remove_all_leftovers(place)
    # what is gone on with is not removed
    _claims[output] = Claim(output, checkpoints, overwrite and not resume)
    _listen()


def check_free(
    output: Path,
    checkpoints: Path,
    resume: str | os.PathLike | None = None,
    options: Sequence[str] | None = None,
) -> None:
    """Refuse a folder that holds a training, unless that is what is gone on with.

    Args:
        output: the run's folder.
        checkpoints: folder of its checkpoints.
        resume: checkpoint to go on from, or empty.
        options: what a person can do, in clauses; None takes those of a bundle's command.

    Raises:
        RunError: says what it holds, and the options.
    """
    files = RunFolder(output)
    held = [path for path in (*_weights(checkpoints), *_results(files)) if path.exists()]
    # a record alone is of a training that was stopped before its first checkpoint: nothing is lost
    held = [path for path in held if path not in (files.record, files.history)]
    if not held:
        return
    if resume:
        given = Path(resume).expanduser().resolve()
        if any(given.is_relative_to(place) or place.is_relative_to(given) for place in (output, checkpoints)):
            return
    options = [
        "To begin anew and lose it, add --overwrite True",
        "or give another --output_dir and --ckpt_dir",
    ]
    if (checkpoints / STATE).is_file():
        options.insert(0, f"To go on with it, add --resume {shown(checkpoints / STATE)}")
    raise RunError(
        f"{shown(output)} holds {_what(files, held)}, which would be lost. {'. '.join(options[:-1])}, {options[-1]}."
    )


def _what(files: RunFolder, held: list[Path]) -> str:
    try:
        record = files.read(files.record) or {}
        status = {"finished": "a finished", "failed": "a failed"}.get(
            str(record.get("status")), "an unfinished"
        )
        about = f"seed {record['seed']}, started {record['sessions'][0]['started']}"
        return f"{status} training ({about})"
    except (RunError, LookupError, TypeError, AttributeError):
        return f"a training ({', '.join(path.name for path in held[:3])})"


def shown(path: Path) -> str:
    """Return a path as a person types it in the folder of the command."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _lock(folder: Path) -> None:
    """Hold the folder's lock until the process ends; a lock of a process that is gone is taken over."""
    if folder in _locks:
        return
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / LOCK
    stream = _opened(file) or _left_by_the_dead(file)
    if stream is None:
        raise RunError(
            f"{shown(folder)} is being trained in by {_holder(file)}. Wait for it or stop it, or give another --output_dir "
            "and --ckpt_dir."
        )
    other = _read(file)
    if other.get("host", socket.gethostname()) != socket.gethostname():
        stream.close()
        # not every network disk tells its machines of each other's locks
        raise RunError(
            f"{shown(folder)} was taken by {_holder(file)}, and did not come free there: it may be training still. If it is "
            f"not, remove {shown(file)}."
        )
    stream.truncate(0)
    about = {"host": socket.gethostname(), "process": os.getpid(), "started": _now()}
    stream.write(json.dumps(about) + "\n")
    stream.flush()
    _locks[folder] = stream


def _forget_locks() -> None:
    """In a forked process (of a loader): the lock is its parent's, and goes with it."""
    _locks.clear()
    _claims.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


def _opened(file: Path) -> IO[str] | None:
    """Open a lock's file and hold it; None where another process does."""
    while True:
        stream = open(file, "a+", encoding="utf-8")  # noqa: SIM115  held until the process ends
        close_in_forks(stream)
        if not _hold(stream):
            stream.close()
            return None
        # its holder may have removed it between these lines
        if file.exists() and os.path.samestat(os.fstat(stream.fileno()), file.stat()):
            return stream
        stream.close()


def _left_by_the_dead(file: Path, patience: float = 5.0) -> IO[str] | None:
    """Open the lock of a process that died while a process that it had just forked holds it for a moment yet."""
    other = _read(file)
    end = time.monotonic() + patience
    while other.get("host") == socket.gethostname() and not _runs(other.get("process")):
        if time.monotonic() > end:
            break
        time.sleep(0.05)
        if (stream := _opened(file)) is not None:
            return stream
    return None


def _runs(process: Any) -> bool:
    """Whether a process of this machine is there; one that may not be asked is."""
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except (OSError, TypeError, ValueError, OverflowError):
        return True
    return True


def _hold(stream: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _read(file: Path) -> dict[str, Any]:
    try:
        found = read_json(file)
    except (ValueError, OSError):
        return {}
    return found if isinstance(found, dict) else {}


def _holder(file: Path) -> str:
    found = _read(file)
    if not found:
        return "another process"
    return f"process {found.get('process')} on {found.get('host')}, since {found.get('started')}"


def release_runs() -> None:
    """Give the locks of this process back; they come free too when the process ends, whatever ends it."""
    for folder, stream in _locks.items():
        # removed while it is held: who waits for it finds another file, or none
        (folder / LOCK).unlink(missing_ok=True)
        stream.close()
    _locks.clear()
    _ended[:] = _claims.values()
    _claims.clear()


atexit.register(release_runs)


def claim_of(output_dir: str | os.PathLike) -> Claim | None:
    """Return this process's claim of a folder; None where it has none."""
    return _claims.get(Path(output_dir).expanduser().resolve())


def close_records(status: str, reason: str) -> list[Claim]:
    """Note in the records of the runs of this process how they ended; runs that were not begun keep the record that they had.

    Args:
        status: ``"failed"`` or ``"interrupted"``.
        reason: why, in a sentence.

    Returns:
        The claims that were open.
    """
    claims = list(_claims.values())
    for claim in claims:
        files = claim.files
        record = files.read(files.record) if claim.recorded else None
        if record is not None and record.get("status") == "running":
            record["status"] = status
            record["reason"] = reason
            record["sessions"][-1]["ended"] = _now()
            write_json(files.record, record)
    return claims


def interrupted() -> str:
    """Note that the runs of this process were interrupted, and return in one line how to go on."""
    claims = close_records("interrupted", "stopped by a signal") or _ended
    if not claims:
        return "Interrupted."
    state, files = claims[0].state, claims[0].files
    if state.is_file() and files.started_by_train():
        return f"Interrupted. To go on: monai-difom train --resume {shown(files.with_control())}"
    if state.is_file():
        return f"Interrupted. To go on: the same command with --resume {shown(state)}"
    return "Interrupted before the first checkpoint: nothing is kept yet, the same command starts anew."


def _listen() -> None:
    """End by Ctrl-C and SIGTERM with one line; where this process is a command of its own."""
    if threading.current_thread() is threading.main_thread() and _is_command():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _terminate)


def _is_command() -> bool:
    return "monai" in sys.argv[0] and "bundle" in sys.argv[0]


def _terminate(number: int, _frame: Any) -> None:
    print(f"\n{interrupted()}", file=sys.stderr, flush=True)
    raise SystemExit(128 + number)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
