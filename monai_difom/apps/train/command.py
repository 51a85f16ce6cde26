"""``monai-difom train``: from a folder of images to a student, its scores and a report, in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ...utils.weight_files import STATE
from ..report.page import write_report
from ..runs.claim import check_free, shown
from ..runs.folder import RunError, RunFolder
from ..runs.identity import RunIdentity
from .finished import FinishedRun
from .plan import CONTROL, TrainingPlan, control_of, make_plan
from .request import Request


def train(
    data: str | os.PathLike,
    teacher: str | os.PathLike | Sequence[str | os.PathLike] = (),
    student: str | None = None,
    recipe: str | None = None,
    bundle: str = "polyp_difom",
    control: bool = False,
    output: str | os.PathLike | None = None,
    unlabelled: str | os.PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    **more: Any,
) -> FinishedRun:
    """Train a student and return what it left; the same as ``monai-difom train`` on the command line.

    Args:
        data: folder of images with masks, in any layout that the bundles know, or pairs under any names.
        teacher: one or several, see `Request`.
        student: overlay of ``configs/students``, such as ``"unetpp"``.
        recipe: overlay of ``configs/recipes``.
        bundle: whose method is used.
        control: train the undistilled twin as well, and report both on one page.
        output: the run's folder.
        unlabelled: folder of further images without masks.
        settings: id of the configuration -> value.
        overwrite: remove the training that the folder holds.
        **more: further fields of `Request`, such as ``quick``, ``structure`` or ``images``.

    Raises:
        ValueError, FileNotFoundError: what was asked for cannot be; says what is allowed.
        RunError: the training failed; its own last lines say why.

    Example::

        run = monai_difom.train("data/mine", teacher="imagenet_hub", student="unetpp", control=True)
        print(run.scores, run.report)
    """
    teachers = [teacher] if isinstance(teacher, (str, os.PathLike)) else list(teacher)
    request = Request(
        data=Path(data),
        teachers=[os.fspath(name) for name in teachers],
        student=student,
        recipe=recipe,
        bundle=bundle,
        output=Path(output) if output is not None else None,
        unlabelled=Path(unlabelled) if unlabelled is not None else None,
        settings=dict(settings or {}),
        **more,
    )
    return _train(request, control, overwrite)


def _train(request: Request, control: bool, overwrite: bool = False) -> FinishedRun:
    plan = make_plan(request)
    twin = control_of(plan) if control and request.teachers else None
    for each in filter(None, (plan, twin) if not overwrite else ()):
        going_on = f"To go on with it: monai-difom train --resume {shown(plan.folder)}"
        anew = "To begin anew and lose it, add --overwrite, or give another --output"
        check_free(each.folder, RunFolder(each.folder).models, options=[going_on, anew])
    for note in plan.notes:
        print(note)
    if control and twin is None:
        print("Without a teacher the student is its own control: no second one is trained.")
    print(f"Run: {plan.folder}\nThe same by MONAI's own command:\n  {plan.command()}\n", flush=True)
    plan.write()
    _run(plan, overwrite=overwrite)
    if twin is not None:
        print(f"\nThe control, the same student without teachers: {twin.folder}\n", flush=True)
        twin.write()
        _run(twin, overwrite=overwrite)
    return finish(plan.folder)


def finish(folder: Path) -> FinishedRun:
    """Return a finished run; with a control, the report is written anew about both."""
    control = folder / CONTROL if RunFolder(folder / CONTROL).summary.is_file() else None
    run = FinishedRun(folder, control)
    if control is not None:
        write_report([folder], run.report, [control])
    return run


def _run(plan: TrainingPlan, resume: bool = False, overwrite: bool = False) -> None:
    # MONAI warns of what any configuration may do; this one is what was asked for
    quiet = {"PYTHONWARNINGS": "ignore::UserWarning", **os.environ}
    done = subprocess.run(plan.words(resume, overwrite), env=quiet, check=False)
    if done.returncode:
        raise RunError(
            f"the training in {plan.folder} ended with status {done.returncode}; the lines above say why. {how_on(plan)}"
        )


def how_on(plan: TrainingPlan) -> str:
    """Say what can be done after a failure: a run that has reached nothing is started again, not resumed."""
    files = RunFolder(plan.folder)
    run = files.with_control()
    if files.state() is None and run == files.path:
        return "It had not reached anything yet: mend that, and give the same command again."
    return f"What it had reached is kept: monai-difom train --resume {shown(run)}"


def resume(folder: Path) -> FinishedRun:
    """Go on with an interrupted run, and with its control where it has one."""
    for place in (folder, folder / CONTROL):
        files = RunFolder(place)
        config = files.trained
        if place != folder and not config.is_file():
            continue
        if not config.is_file():
            raise RunError(
                f"{folder} was not started by `train`: it has no {config.relative_to(folder)}. Resume it with the command that "
                f"started it and --resume {files.models / STATE}."
            )
        if files.summary.is_file():
            print(f"{place} is finished.")
            continue
        merged = yaml.safe_load(config.read_text(encoding="utf-8"))
        plan = TrainingPlan(place, merged, RunIdentity(), place, ())
        _run(plan, resume=files.state() is not None)
    return finish(folder)


def run_train(
    data: Path | None,
    resume_run: Path | None,
    control: bool,
    set_values: Sequence[str],
    overwrite: bool = False,
    traceback: bool = False,
    **asked: Any,
) -> int:
    """Run the verb, and return the exit code: 0; 2 for what cannot be; 1 for a training that failed."""
    try:
        if (data is None) == (resume_run is None):
            raise ValueError(
                "give the folder of the data set, or --resume RUN to go on with a run; one of the two."
            )
        if resume_run is not None:
            resume(resume_run.expanduser().resolve()).show()
            return 0
        assert data is not None
        if not data.expanduser().exists():
            raise FileNotFoundError(f"there is no data set at {data}.")
        _train(Request(data=data, settings=parse_settings(set_values), **asked), control, overwrite).show()
    except (ValueError, OSError) as error:
        if traceback:
            raise
        print(f"train: {error}", file=sys.stderr)
        return 1 if isinstance(error, RunError) else 2
    return 0


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """Return ``id=value`` words as id -> value; values are read as YAML, as those of MONAI's command line.

    Raises:
        ValueError: a word is no such pair.
    """
    found = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"--set takes id=value, such as --set image_size=256; got {word!r}.")
        found[name] = yaml.safe_load(value) if value else ""
    return found
