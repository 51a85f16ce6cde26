"""From what is asked for to a bundle that trains exactly that: one merged configuration, with metadata that is true of it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from ...utils import atomic_path, write_json
from ...utils.literals import literal
from ...utils.weight_files import STATE
from ..bundle.command_line import check_overrides
from ..bundle.shipped import bundle_folder, overlay_file
from ..bundle.typed_paths import is_path
from ..runs.folder import CONTROL, RunFolder
from ..runs.identity import NEUTRAL, RunIdentity
from .layout import find_layout
from .request import QUICK, Request
from .teachers import LABELLERS, Taught, find_teachers

SOFT_MASKS = "soft_masks"  # the recipe in which a network labels images
#: bundle -> overlay of the same student without any teacher
ALONE = {"polyp_difom": "phases/undistilled", "task_specific_kd": "arms/scratch"}
#: steps of an epoch of a run with images without masks, for its twin
_STEPS = "$monai_difom.data.MixedSampler(len(@train_data), len(@unlabelled_data_of_run), @batch_size, @unlabelled_share).steps"
_COPIED = ("LICENSE", "configs/logging.conf")
_COMMANDS = ("configs/inference.yaml", "configs/evaluate.yaml")


@dataclass(frozen=True)
class TrainingPlan:
    """A training that is ready to run.

    Args:
        folder: the run's folder.
        config: merged configuration, plain data.
        identity: what the run is about.
        origin: folder of the bundle whose method it is.
        notes: sentences for the person, one line each.
    """

    folder: Path
    config: dict[str, Any]
    identity: RunIdentity
    origin: Path
    notes: tuple[str, ...]

    @property
    def source(self) -> Path:
        """The bundle that is written and trained."""
        return self.folder / "source"

    def write(self) -> None:
        """Write the bundle that is trained: configurations, metadata, licence."""
        for name in _COPIED:
            (self.source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.origin / name, self.source / name)
        write_text(
            self.source / "configs/train.yaml", yaml.safe_dump(self.config, sort_keys=False, width=120)
        )
        for name in _COMMANDS:
            text = (self.origin / name).read_text(encoding="utf-8")
            write_text(self.source / name, self.identity.configuration(text))
        metadata = self.identity.metadata(
            json.loads((self.origin / "configs/metadata.json").read_text(encoding="utf-8"))
        )
        write_json(self.source / "configs/metadata.json", metadata)
        page = (self.origin / "docs/README.md").read_text(encoding="utf-8")
        (self.source / "docs").mkdir(exist_ok=True)
        write_text(self.source / "docs/README.md", self.identity.readme(page, metadata, training=True))

    def words(self, resume: bool = False, overwrite: bool = False) -> list[str]:
        """Return MONAI's own command that does the same."""
        start = [sys.executable, "-m", "monai.bundle", "run", "training", "--bundle_root", str(self.source)]
        more = ["--resume", str(RunFolder(self.folder).models / STATE)] if resume else []
        more += ["--overwrite", "True"] if overwrite and "overwrite" in self.config else []
        return [*start, "--config_file", str(self.source / "configs/train.yaml"), *more]

    def command(self) -> str:
        """Return that command as a person types it."""
        return shlex.join(["python", *self.words()[1:]])


def make_plan(request: Request) -> TrainingPlan:
    """Merge a bundle, overlays and options into one configuration.

    Raises:
        ValueError, FileNotFoundError: a name that nothing has, images that are not found; each says what is allowed.
    """
    bundle = bundle_folder(request.bundle)
    taught, layout = find_teachers(request.teachers), find_layout(request)
    files = [
        bundle / "configs/train.yaml",
        *(overlay_file(name) for name in (*layout.overlays, *taught.overlays)),
    ]
    if request.student:
        files.append(overlay_file(request.student, "students"))
    recipe = recipe_of(request, bundle, taught)
    if recipe:
        files.append(overlay_file(recipe, "recipes"))
    alone = not request.teachers
    if alone:
        files.append(overlay_file(alone_overlay(bundle)))
    config = merged(files)
    folder = (request.output or free_folder(request)).expanduser().resolve()
    options = {
        **layout.options,
        **taught.options,
        **({"teachers": taught.teachers} if taught.teachers else {}),
        **({"unlabelled": str(request.unlabelled.expanduser().resolve())} if request.unlabelled else {}),
        **(QUICK if request.quick else {}),
        # what was not said stays neutral, whatever the bundle is for
        "structure": request.structure or NEUTRAL,
        "modality": request.modality,
        "task": request.task,
        "data_source": request.data.expanduser().resolve().stem,
        **request.settings,
    }
    check_overrides(
        ["run", "--config_file", str([str(file) for file in files]), *(f"--{name}" for name in options)]
    )
    places = {"bundle_root": folder / "source", "output_dir": folder, "ckpt_dir": RunFolder(folder).models}
    for name, value in {**options, **{key: str(place) for key, place in places.items()}}.items():
        put(config, name, kept(value) if is_path(name) or name in ("teachers", LABELLERS) else value)
    notes = (layout.note, _taught_by(request, recipe))
    return TrainingPlan(
        folder, config, RunIdentity.of(config, [Path(name).stem for name in request.teachers]), bundle, notes
    )


def recipe_of(request: Request, bundle: Path, taught: Taught) -> str | None:
    """Return the recipe of a training: the one that is asked for, or the one that gains with few labels, where it can be used.

    `polyp_difom` takes ``soft_masks`` where images without masks are named and the teacher can be adapted to the task, see
    ``benchmarks/gain.md``; else None, the bundle's own.

    Raises:
        ValueError: a trained network is to teach, and there is nothing for it to label, or the training would not ask it.
    """
    without = request.unlabelled or request.settings.get("unlabelled")
    if LABELLERS in taught.options:
        if not (without or request.limit):
            raise ValueError(
                f"{', '.join(request.teachers)} teaches by the masks that it gives to images without any, and none are named. "
                "Give their folder as --unlabelled DIR, or --set limit=N to use the masks of N images alone."
            )
        if request.recipe not in (None, SOFT_MASKS):
            raise ValueError(
                f"{', '.join(request.teachers)} teaches by masks, which the recipe {request.recipe} does not ask of it. Leave "
                f"--recipe out, or take {SOFT_MASKS}."
            )
        return SOFT_MASKS
    if request.recipe or bundle.name != "polyp_difom":
        return request.recipe
    adaptable = any("teacher_def" in merged([overlay_file(name)]) for name in taught.overlays)
    return SOFT_MASKS if without and adaptable else None


def control_of(plan: TrainingPlan) -> TrainingPlan:
    """Return the undistilled twin: the same student, labelled images, steps and seed, without teachers and what they said.

    Where the run has images without masks as well, an epoch of it has more steps than one pass over the labelled ones; the twin
    takes as many.
    """
    config = json.loads(json.dumps(plan.config))
    folder = plan.folder / CONTROL
    alone = merged([overlay_file(alone_overlay(plan.origin))])
    for name, value in {
        **alone,
        "output_dir": literal(str(folder)),
        "ckpt_dir": literal(str(RunFolder(folder).models)),
    }.items():
        put(config, name, value)
    if config.get("unlabelled") and config.get("epoch_steps") is None:
        config |= {
            "unlabelled_of_run": config["unlabelled"],
            "unlabelled_data_of_run": re.sub(
                r"@unlabelled\b", "@unlabelled_of_run", config["unlabelled_data"]
            ),
            "epoch_steps": _STEPS,
        }
    for name in ("soft_masks", "unlabelled", "feature_store"):
        if name in config:
            config[name] = None
    config["bundle_root"] = literal(str(folder / "source"))
    if "prepared_dir" in config:
        config["prepared_dir"] = literal(str(plan.folder / "data"))
    return TrainingPlan(folder, config, replace(plan.identity, teachers=()), plan.origin, ())


def alone_overlay(bundle: Path) -> str:
    """Return the overlay under which a bundle trains its student without teachers.

    Raises:
        ValueError: the bundle has none.
    """
    if bundle.name not in ALONE:
        raise ValueError(
            f"{bundle.name} trains no student without teachers: name some (--teacher), and leave out --control. Allowed "
            f"without: {', '.join(ALONE)}."
        )
    return ALONE[bundle.name]


def kept(value: Any) -> Any:
    """Return a value whose texts MONAI gives back as they are, at any depth."""
    if isinstance(value, Mapping):
        return {key: kept(child) for key, child in value.items()}
    if isinstance(value, list):
        return [kept(child) for child in value]
    return literal(value) if isinstance(value, str) and not value.startswith(("@", "$", "%")) else value


def write_text(file: Path, text: str) -> None:
    """Write a text beside its place and rename it."""
    with atomic_path(file) as draft:
        draft.write_text(text, encoding="utf-8")


def merged(files: list[Path]) -> dict[str, Any]:
    """Return configuration files joined as MONAI joins them, unresolved."""
    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    return dict(parser.get())


def put(config: dict[str, Any], name: str, value: Any) -> None:
    """Set an id, at any depth, in a configuration."""
    parser = ConfigParser(config)
    parser.set(value, name.replace("#", "::"))
    config.update(parser.get())


def free_folder(request: Request) -> Path:
    """Return a name for the run's folder that tells data, student and teachers, and that nothing has yet."""
    parts = [request.data.expanduser().resolve().stem, request.student or "", request.recipe or ""]
    parts += [Path(name).stem for name in request.teachers] or ["alone"]
    name = "_".join(re.sub(r"[^A-Za-z0-9.-]+", "-", part) for part in parts if part)
    folders = (Path("runs") / (name if number == 1 else f"{name}_{number}") for number in range(1, 10_000))
    return next(folder for folder in folders if not folder.exists())


def _taught_by(request: Request, recipe: str | None) -> str:
    if not request.teachers:
        return "No teacher is named: the student is trained on masks alone. `monai-difom teachers` lists what can teach."
    why = (
        ""
        if request.recipe or not recipe
        else ", for there are images without masks (--recipe takes another)"
    )
    return f"Teachers: {', '.join(request.teachers)}.{f' Recipe: {recipe}{why}.' if recipe else ''}"
