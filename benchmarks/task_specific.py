"""The arms that task-specific distillation is compared with, on real images with few labels, by the bundle's own commands.

Every run is one `python -m monai.bundle run training` of bundles/task_specific_kd with the overlay of its arm: same first
student, same labelled images, same fine-tuning; what is done before that differs. MAE and MoCo v3 see as many transfer
images as the distillations. A run that was interrupted goes on, a finished one is not repeated; table.md is written after each.

    python benchmarks/task_specific.py --name kvasir --kvasir --dataset_dir DATA/polyp --teacher_weights FILE --labels 20 60
    python benchmarks/task_specific.py --name drive --overlay configs/data/drive.yaml --dataset_dir DATA/DRIVE \
      --teacher_weights FILE --labels 4 8

    python benchmarks/task_specific.py --name nuclei_equal_steps --nuclei --dataset_dir DATA/DSB2018_120 --teacher_weights FILE \
      --labels 20 --image_size 128 --teacher_size 128 --transfer_count 96 --epoch_steps 50 --epochs 8 25 14 \
      --arms scratch mae moco_v3 task_agnostic task_specific soft_masks \
      --more keep=last ema=0.995 rotate=180 scale=[0.7,1.4] shift=0.1

`--kvasir` takes Kvasir's images alone out of PraNet's folders, `--nuclei` every fifth image of the folder for the test; the
training images without their masks are the transfer set. With `--epoch_steps` all arms take as many steps of the student:
those that train in one stage (scratch, soft_masks) take what the others spend before it, and the arms of a seed share its
adapted teacher.
Otherwise `--transfer_dir` names one; without it the labelled images are strongly augmented. The arm `imagenet` is run where
`--imagenet_weights` is a local file of the student's encoder. The last line is one JSON object,
which is also kept in benchmarks/task_specific.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from statistics import mean
from typing import Any

from kept_figures import keep_figures

from monai_difom.apps.runs.compare import compare_runs
from monai_difom.apps.runs.run import read_run

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_suffix(".json")
TEACHER = "configs/teachers/unet_adapted.yaml"
SAM = "configs/teachers/sam_small.yaml"
# arm -> overlays; the teacher of an arm without one is not run
ARMS = {
    "scratch": [SAM, "configs/arms/scratch.yaml"],
    "imagenet": [SAM, "configs/arms/imagenet.yaml"],
    "mae": [SAM, "configs/arms/mae.yaml"],
    "moco_v3": [SAM, "configs/arms/moco_v3.yaml"],
    "task_agnostic": [TEACHER, "configs/arms/task_agnostic.yaml"],
    "task_specific": [TEACHER, "configs/arms/task_specific.yaml"],
    # the same teacher labels the transfer set, and the student trains on both in one stage
    "soft_masks": [TEACHER, "configs/recipes/soft_masks.yaml"],
    "task_specific_sam_small": [SAM, "configs/arms/task_specific.yaml"],
}
#: what trains the student in one stage
ONE_STAGE = ("scratch", "soft_masks")
#: what learns from an adapted teacher, and is compared with all other arms
METHODS = ("task_specific", "soft_masks")
Scores = dict[str, dict[int, dict[int, dict[str, float]]]]  # row -> labels -> seed -> scores


def link_kvasir(dataset: Path, folder: Path) -> Path:
    """Lay out Kvasir's images of PraNet's folders alone, by links."""
    places = {
        f"TrainDataset/{kind}": [
            p for p in (dataset / "TrainDataset" / kind).iterdir() if not p.stem.isdigit()
        ]
        for kind in ("image", "mask")
    }
    for kind in ("images", "masks"):
        places[f"TestDataset/Kvasir/{kind}"] = list((dataset / "TestDataset" / "Kvasir" / kind).iterdir())
    return _link(places, folder)


def link_nuclei(dataset: Path, folder: Path) -> Path:
    """Lay out the nuclei in PraNet's folders by links: every fifth image is for the test."""
    places: dict[str, list[Path]] = {}
    for kind, one in (("images", "image"), ("masks", "mask")):
        for n, file in enumerate(sorted((dataset / kind).iterdir())):
            place = f"TestDataset/DSB2018/{kind}" if n % 5 == 0 else f"TrainDataset/{one}"
            places.setdefault(place, []).append(file)
    return _link(places, folder)


def _link(places: dict[str, list[Path]], folder: Path) -> Path:
    for place, files in places.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        for file in files:
            with suppress(FileExistsError):
                (folder / place / file.name).symlink_to(file.resolve())
    return folder


def command(
    arm: str, labels: int, seed: int, dataset: Path, out: Path, options: argparse.Namespace
) -> list[str]:
    """Return the bundle command of one run."""
    files = ["bundles/task_specific_kd/configs/train.yaml", *ARMS[arm][:-1]]
    files += [options.overlay] if options.overlay else []
    given: dict[str, Any] = {
        "bundle_root": "bundles/task_specific_kd",
        "config_file": str([*files, ARMS[arm][-1]]),
        "dataset_dir": dataset,
        "output_dir": out,
        "ckpt_dir": out / "models",
        "transfer_report": options.runs.resolve() / options.name / f"transfer_{labels}_{seed}",
        "image_size": options.image_size,
        "batch_size": options.batch_size,
        "epochs": str(options.epochs).replace(" ", ""),
        "limit": labels,
        "seed": seed,
        "val_interval": 4,
        "save_interval": 10,
        "transfer_count": options.transfer_count,
        "pretrain_rate": 0.0005,
        "progress": False,
        "report": False,
    }
    if options.epoch_steps:
        given |= {"epoch_steps": options.epoch_steps, "adapt_steps": options.epoch_steps}
        given["adapt_dir"] = options.runs.resolve() / options.name / f"adapt_{labels}_{seed}"
        if arm in ONE_STAGE:
            before = options.epochs[1] * (options.transfer_count // options.batch_size)
            given["finetune_epochs"] = options.epochs[2] + before // options.epoch_steps
    given |= dict(word.split("=", 1) for word in options.more)
    if options.transfer_dir is not None:
        given |= {"transfer": "folder", "transfer_dir": options.transfer_dir.resolve()}
    if TEACHER in ARMS[arm]:
        given["teacher_weights"] = options.teacher_weights.resolve()
        if options.teacher_size:
            given["teacher_size"] = options.teacher_size
    if arm == "imagenet":
        given["imagenet_weights"] = options.imagenet_weights.resolve()
    words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    return [sys.executable, "-m", "monai.bundle", "run", "training", *words]


def run(arm: str, labels: int, seed: int, dataset: Path, options: argparse.Namespace) -> Path:
    """Do one run unless it is done, and return its folder; training states of a finished run are removed."""
    out = folder_of(arm, labels, seed, options)
    if not _finished(out):
        out.mkdir(parents=True, exist_ok=True)
        with open(out / "log.txt", "a") as log:
            words = command(arm, labels, seed, dataset, out, options)
            subprocess.run(words, cwd=ROOT, stdout=log, stderr=log, check=True, env=os.environ)
        for state in [*out.rglob("last.pt"), *out.rglob("pretraining.pt")]:
            state.unlink()
    return out


def folder_of(arm: str, labels: int, seed: int, options: argparse.Namespace) -> Path:
    """Return the folder of a run."""
    return options.runs.resolve() / options.name / f"{arm}_{labels}_{seed}"


def _finished(out: Path) -> bool:
    file = out / "stage.json"
    return file.is_file() and json.loads(file.read_text())["finished"]


def collect(options: argparse.Namespace) -> Scores:
    """Read the scores of all finished runs, those of their teachers among them."""
    rows: Scores = {}
    for arm in options.arms:
        for labels in options.labels:
            for seed in options.seeds:
                out = folder_of(arm, labels, seed, options)
                if not _finished(out):
                    continue
                summary = json.loads((out / "summary.json").read_text())
                (scores,) = summary["test_sets"].values()
                rows.setdefault(arm, {}).setdefault(labels, {})[seed] = scores
                adapted = summary["stages"].get("adapt", {}).get("test_sets")
                if adapted:
                    (scores,) = adapted.values()
                    rows.setdefault(f"teacher of {arm}", {}).setdefault(labels, {})[seed] = scores
    return rows


def table(rows: Scores, labels: list[int], score: str, digits: int) -> str:
    """Return one score as a Markdown table: a row an arm, a column a number of labels, mean and single seeds."""
    lines = [f"| {score} | " + " | ".join(f"{n} labels" for n in labels) + " |"]
    lines.append("|---" * (len(labels) + 1) + "|")
    for arm, found in rows.items():
        cells = []
        for n in labels:
            values = [scores[score] for _, scores in sorted(found.get(n, {}).items())]
            single = ", ".join(f"{value:.{digits}f}" for value in values)
            cells.append(f"{mean(values):.{digits}f} ({single})" if values else "")
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def change(rows: Scores, method: str, arm: str, labels: int, options: argparse.Namespace) -> Any:
    """Return what a method has more than another arm in Dice, paired over images and seeds; None where no seed has both."""
    seeds = sorted(set(rows.get(method, {}).get(labels, {})) & set(rows.get(arm, {}).get(labels, {})))
    if not seeds or method == arm:
        return None
    sides = [[read_run(folder_of(a, labels, seed, options)) for seed in seeds] for a in (arm, method)]
    (scores,) = compare_runs(*sides).values()
    return scores["dice"][0].difference


def gains(rows: Scores, options: argparse.Namespace) -> list[str]:
    """Return the gain of the methods over every other arm in words."""
    found = []
    for labels in options.labels:
        for method in METHODS:
            for arm in (a for a in rows if a in ARMS):
                c = change(rows, method, arm, labels, options)
                if c is not None:
                    words = f"{c.mean:+.3f} ({c.low:+.3f} to {c.high:+.3f}, {c.images} images)"
                    found.append(f"- {labels} labels: {method} - {arm} {words}")
    return found


def figures(rows: Scores, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Return ``<name>, <n> labels`` -> arm -> Dice per seed; a method's gain is that over training from scratch."""
    found: dict[str, dict[str, Any]] = {}
    for labels in options.labels:
        arms = {
            arm: {"dice": [scores["dice"] for _, scores in sorted(by[labels].items())]}
            for arm, by in rows.items()
            if labels in by
        }
        for method in METHODS:
            over = change(rows, method, "scratch", labels, options)
            if over is not None:
                arms[method] |= {"gain": over.mean, "low": over.low, "high": over.high}
        found[f"{options.name}, {labels} labels"] = arms
    return found


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--name", required=True, help="name of the data, a folder under --runs")
    parser.add_argument("--dataset_dir", type=Path, required=True)
    parser.add_argument("--overlay", help="an overlay of configs/data")
    parser.add_argument("--kvasir", action="store_true")
    parser.add_argument("--nuclei", action="store_true")
    parser.add_argument("--teacher_weights", type=Path, required=True)
    parser.add_argument("--imagenet_weights", type=Path)
    parser.add_argument("--transfer_dir", type=Path)
    parser.add_argument("--transfer_count", type=int, default=480)
    parser.add_argument("--labels", type=int, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS))
    parser.add_argument("--image_size", type=int, default=96)
    parser.add_argument(
        "--teacher_size", type=int, help="of the U-Net teacher; twice the student's by default"
    )
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument(
        "--epochs", type=int, nargs=3, default=[40, 4, 60], metavar=("ADAPT", "DISTIL", "FINETUNE")
    )
    parser.add_argument(
        "--epoch_steps",
        type=int,
        help="batches in an epoch of adapt and finetune; then all arms take equal steps",
    )
    parser.add_argument(
        "--more", nargs="+", default=[], metavar="ID=VALUE", help="of the bundle, for every arm"
    )
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "task_specific")
    options = parser.parse_args()
    if options.arms is None:
        options.arms = [arm for arm in ARMS if arm != "imagenet" or options.imagenet_weights]
    if "imagenet" in options.arms and options.imagenet_weights is None:
        parser.error("the arm imagenet needs --imagenet_weights, a local file of the student's encoder.")
    return options


def main() -> None:
    """Run what is missing and print the tables."""
    options = parse()
    dataset = options.dataset_dir.resolve()
    place = options.runs.resolve() / options.name
    if options.kvasir or options.nuclei:
        dataset = (link_kvasir if options.kvasir else link_nuclei)(dataset, place / "data")
        options.transfer_dir = options.transfer_dir or dataset / "TrainDataset" / "image"
    rows: Scores = {}
    for labels in options.labels:
        for seed in options.seeds:
            for arm in options.arms:
                run(arm, labels, seed, dataset, options)
                rows = collect(options)
                parts = [table(rows, options.labels, "dice", 3), table(rows, options.labels, "hd95", 1)]
                text = "\n\n".join([*parts, "\n".join(gains(rows, options))])
                (place / "table.md").write_text(text + "\n")
                print(f"{arm}, {labels} labels, seed {seed}: done", flush=True)
    print((place / "table.md").read_text())
    found = figures(rows, options)
    keep_figures(RESULTS, found)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
