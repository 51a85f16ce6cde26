"""One student from three specialists that speak through masks: polyps, retinal vessels and nuclei at once.

The data are those of `agglomeration.py`, whose student sees the masks of every tenth image. A specialist is a U-Net on an
ImageNet EfficientNet-Lite2, adapted to the same few masks of its task and to nothing else; it labels the images of its task that
have no masks. The student (0.7 million parameters, 96 px) learns from both, for as many steps in every arm: ``alone``, with the
soft masks of one specialist, of all three, and one student for each task, taught alike (``only polyp``):

    python benchmarks/agglomeration_masks.py --data DATA --teacher_weights EFFICIENTNET_LITE2 --seeds 0 1

What was interrupted is resumed, what is finished is not repeated. The figures go to benchmarks/agglomeration.json beside the
others: gain over ``alone``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from agglomeration import (
    BUNDLE,
    ENCODER,
    RESULTS,
    ROOT,
    SIZE,
    TASKS,
    bundle,
    gain_text,
    prepare,
    scores_of,
)
from agglomeration import gain as gain_over
from agglomeration import table as table_of
from kept_figures import keep_figures

from monai_difom.utils import write_json

TEACHER = "configs/teachers/efficientnet_lite2.yaml"
STEPS, EPOCH_STEPS = 1250, 50
TEACHER_STEPS = 400
#: arm -> the tasks that it learns, and those whose specialists teach
ARMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "alone": (TASKS, ()),
    "all": (TASKS, TASKS),
    **{task: (TASKS, (task,)) for task in TASKS},
    **{f"only {task}": ((task,), (task,)) for task in TASKS},
}
#: any turn, size and place, and an average of the weights, for teachers and all arms alike
TRAINING = {"rotate": 180, "scale": [0.7, 1.4], "shift": 0.1, "ema": 0.995, "keep": "last", "val_interval": 5}


def lay_out(folder: Path) -> None:
    """Write for each task the list of its few labelled images, and links to those without masks; done once."""
    labelled = json.loads((folder / "labelled" / "datalist.json").read_text(encoding="utf-8"))
    for task in TASKS:
        place = folder / f"few_{task}"
        if (place / "datalist.json").is_file():
            continue
        own = json.loads((folder / task / "datalist.json").read_text(encoding="utf-8"))
        kept = [item for item in labelled["training"] if task in item["label"]]
        known = {item["image"] for item in kept}
        images = place / "unlabelled"
        images.mkdir(parents=True, exist_ok=True)
        for item in own["training"]:
            link = images / Path(item["image"]).name
            if item["image"] not in known and not link.is_symlink():
                link.symlink_to(Path(item["image"]).resolve())
        write_json(place / "datalist.json", {**own, "training": kept})


def common(weights: Path, out: Path, dataset: Path, seed: int, steps: int = STEPS) -> dict[str, Any]:
    """Options of every run."""
    return {
        "bundle_root": BUNDLE,
        "dataset_dir": dataset,
        "teacher_weights": weights,
        "output_dir": out,
        "ckpt_dir": out / "models",
        "image_size": SIZE,
        "encoder": ENCODER,
        "epoch_steps": EPOCH_STEPS,
        "epochs": [0, steps // EPOCH_STEPS, 0],
        "seed": seed,
        "report": False,
        "progress": False,
        **TRAINING,
    }


def soft_masks(task: str, folder: Path, weights: Path, runs: Path) -> Path:
    """Adapt a task's specialist to its few masks, label the task's other images, and return the folder of the soft masks."""
    out = runs / f"specialist_{task}"
    place = folder / f"few_{task}"
    if not (out / "done").is_file():
        options = common(weights, out, place, 0)
        more = {"batch_size": 8, "adapt_steps": EPOCH_STEPS, "adapt_epochs": TEACHER_STEPS // EPOCH_STEPS}
        bundle("adapt", [TEACHER], out / "log.txt", **{**options, **more})
        words = ["--teacher", str(out / "adapt"), "--images", str(place / "unlabelled"), "--views", "4"]
        words += ["--output", str(out / "soft")]
        start = [sys.executable, "-m", "monai_difom", "autolabel"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with open(out / "log.txt", "a") as log:
            subprocess.run([*start, *words], cwd=ROOT, stdout=log, stderr=log, check=True, env=environment)
        (out / "done").touch()
    return out / "soft"


def name_of(arm: str, steps: int) -> str:
    """Return the name of an arm in the page and in the file of figures."""
    return f"{arm}, masks" + (f", {steps} steps" if steps != STEPS else "")


def train(arm: str, seed: int, folder: Path, weights: Path, runs: Path, steps: int = STEPS) -> Path:
    """Train one arm unless it is done; return its folder."""
    length = "" if steps == STEPS else f"_{steps}"
    out = runs / f"{arm.replace(' ', '_')}{length}_{seed}"
    if (out / "summary.json").exists():
        return out
    tasks, teachers = ARMS[arm]
    dataset = folder / ("labelled" if tasks == TASKS else f"few_{tasks[0]}")
    options = common(weights, out, dataset, seed, steps)
    last = out / "models" / "last.pt"
    if last.exists():
        options["resume"] = last
    recipe = "configs/phases/undistilled.yaml"
    if teachers:
        recipe = "configs/recipes/soft_masks.yaml"
        options["soft_masks"] = {task: str(soft_masks(task, folder, weights, runs)) for task in teachers}
        options["unlabelled"] = [str(folder / f"few_{task}" / "unlabelled") for task in teachers]
    bundle("training", [recipe], out / "log.txt", **{**options, "keep": TRAINING["keep"]})
    return out


def teachers_of(runs: Path) -> dict[str, float]:
    """Return task -> Dice of its specialist on the test images."""
    found = {}
    for task in TASKS:
        file = runs / f"specialist_{task}" / "adapt" / "teacher.json"
        if file.is_file():
            (scores,) = json.loads(file.read_text(encoding="utf-8"))["test_sets"].values()
            found[task] = float(scores["dice"])
    return found


def figures(results: dict[str, list[Path]], steps: int) -> dict[str, dict[str, Any]]:
    """Return task -> arm -> Dice per seed, and in ``mean`` also the gain over ``alone``."""
    found: dict[str, dict[str, Any]] = {}
    for arm, outs in results.items():
        scores = [scores_of(out) for out in outs]
        for task in (*TASKS, "mean"):
            if task in scores[0]:
                found.setdefault(task, {})[name_of(arm, steps)] = {"dice": [s[task] for s in scores]}
        if arm != "alone" and "alone" in results and ARMS[arm][0] == TASKS:
            change = gain_over(results, arm, "alone").difference
            found["mean"][name_of(arm, steps)] |= {
                "gain": change.mean,
                "low": change.low,
                "high": change.high,
            }
    return found


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--teacher_weights", type=Path, required=True, help="EfficientNet-Lite2, in timm's layout"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=int, default=STEPS, help="of the student")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "agglomeration_masks")
    options = parser.parse_args()
    runs, weights = options.runs.resolve(), options.teacher_weights.resolve()
    folder = prepare(options.data.resolve(), runs / "data")
    lay_out(folder)
    results: dict[str, list[Path]] = {}
    for seed in options.seeds:
        for arm in options.arms:
            results.setdefault(arm, []).append(train(arm, seed, folder, weights, runs, options.steps))
            print(f"\n{table_of(results)}\nspecialists: {teachers_of(runs)}", flush=True)
    for one, other in (("all", "alone"), *((a, b) for t in TASKS for a, b in ((t, "alone"), ("all", t)))):
        if one in results and other in results:
            print(gain_text(results, one, other))
    found = figures(results, options.steps)
    keep_figures(RESULTS, found)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
