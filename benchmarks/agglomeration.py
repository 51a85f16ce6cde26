"""One student from several teachers, on polyps, retinal vessels and nuclei at once, with the bundle's own commands.

Three tasks are three structures of one student; an image has the masks of its own task only, and only every tenth training
image has its mask. The student's encoder first learns what the teachers see on all images, without a mask; then the
student learns from the masks, for as many steps in every arm. Compared: no teacher, single teachers (an ImageNet MobileNetV2;
a specialist trained here on all masks of one task), three specialists, all four teachers under every balancer; and the one
student with the three specialists. A run that was interrupted is resumed, a finished one is not repeated; the table is
printed after each, and the last line is one JSON object:

    python benchmarks/agglomeration.py --data DATA --teacher_weights FILE --seeds 0 1

DATA holds `polyp` (PraNet's folders), `DRIVE` and `DSB2018_120`. Teachers are run once for each set of them, into a feature
store that all runs share. Hours on one core; `--arms none imagenet` runs a part.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from kept_figures import keep_figures
from PIL import Image

from monai_difom.apps.runs.compare import compare_runs
from monai_difom.apps.runs.run import read_run
from monai_difom.data import split_validation, test_sets, training_pairs
from monai_difom.utils import write_json

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_suffix(".json")
BUNDLE = "bundles/agglomerated_encoder"
TASKS = ("polyp", "vessel", "nucleus")
SIZE, ENCODER, EPOCHS = 96, "efficientvit_b0", (5, 10, 5)
LABELLED = 10  # the one student sees the masks of every tenth image
FEATURES, MASKS = 10, 200  # epochs on all images, 45 steps each; on the labelled ones, 4 steps each
LONGER = "none, as many steps"
# arm -> specialists, whether the ImageNet network teaches too, overlay of configs, further options
ARMS: dict[str, tuple[tuple[str, ...], bool, str, dict[str, str]]] = {
    "none": ((), True, "", {}),
    LONGER: ((), True, "", {}),
    "imagenet": ((), True, "", {}),
    "polyp": (("polyp",), False, "", {}),
    "vessel": (("vessel",), False, "", {}),
    "nucleus": (("nucleus",), False, "", {}),
    "specialists": (TASKS, False, "", {}),
    "all": (TASKS, True, "", {}),
    "all, raw": (TASKS, True, "targets/raw", {}),
    "all, attention": (TASKS, True, "balancers/attention", {}),
    "all, attention, published": (
        TASKS,
        True,
        "balancers/attention",
        {"objective#balancer#form": "published"},
    ),
    "all, mlp": (TASKS, True, "balancers/mlp", {}),
    "all, mlp, published": (TASKS, True, "balancers/mlp", {"objective#balancer#form": "published"}),
    "all, uncertainty": (TASKS, True, "balancers/uncertainty", {}),
    "all, running mean": (TASKS, True, "balancers/running_mean", {}),
    "all, dropping": (TASKS, True, "balancers/dropping", {}),
}

Pieces = list[dict[str, Any]]


def _save(
    folder: Path, task: str, name: str, image: Image.Image, mask: Image.Image, group: str
) -> dict[str, Any]:
    """Write a pair that is at most 256 pixels wide and return its item."""
    paths = {
        "images": folder / "images" / f"{task}_{name}.png",
        "masks": folder / "masks" / f"{task}_{name}.png",
    }
    for path, picture, resample in (
        (paths["images"], image.convert("RGB"), Image.Resampling.LANCZOS),
        (paths["masks"], mask.convert("L"), Image.Resampling.NEAREST),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        scale = min(1.0, 256 / max(picture.size))
        size = (round(picture.width * scale), round(picture.height * scale))
        picture.resize(size, resample).save(path, compress_level=1)
    return {"image": str(paths["images"]), "label": {task: str(paths["masks"])}, "group": f"{task}/{group}"}


def polyps(data: Path, folder: Path) -> tuple[Pieces, Pieces]:
    """Every fifth training image of both centres, and both test sets."""
    parts = (training_pairs(data / "polyp")[::5], [i for s in test_sets(data / "polyp").values() for i in s])
    return tuple(  # type: ignore[return-value]
        [
            _save(
                folder, "polyp", f"{part}_{n:03d}", Image.open(i["image"]), Image.open(i["label"]), i["group"]
            )
            for n, i in enumerate(items)
        ]
        for part, items in zip(("train", "test"), parts, strict=True)
    )


def _tiles(image: Image.Image, mask: Image.Image, side: int) -> list[tuple[Image.Image, Image.Image]]:
    """Cut a pair into side x side tiles."""
    width, height = image.width // side, image.height // side
    boxes = [
        (c * width, r * height, (c + 1) * width, (r + 1) * height) for r in range(side) for c in range(side)
    ]
    return [(image.crop(box), mask.crop(box)) for box in boxes]


def vessels(data: Path, folder: Path) -> tuple[Pieces, Pieces]:
    """DRIVE in 16 tiles per image, those that lie in the field of view; of the test images every second one."""
    found: list[Pieces] = []
    for part in ("training", "test"):
        pieces: Pieces = []
        for file in sorted((data / "DRIVE" / part / "images").iterdir()):
            number = file.name.split("_")[0]
            mask = next((data / "DRIVE" / part / "1st_manual").glob(f"{number}_*"))
            field = next((data / "DRIVE" / part / "mask").glob(f"{number}_*"))
            image, truth, inside = (
                Image.open(f).convert(m) for f, m in ((file, "RGB"), (mask, "L"), (field, "L"))
            )
            open_tiles = [np.asarray(view).mean() > 127 for _, view in _tiles(image, inside, 4)]
            kept = [(n, t) for n, t in enumerate(_tiles(image, truth, 4)) if open_tiles[n]]
            for n, (tile, lines) in kept[:: 1 if part == "training" else 2]:
                pieces.append(_save(folder, "vessel", f"{number}_{n:02d}", tile, lines, number))
        found.append(pieces)
    return found[0], found[1]


def nuclei(data: Path, folder: Path) -> tuple[Pieces, Pieces]:
    """The 2018 Data Science Bowl in 4 tiles per image; every fifth image is for the test, three tiles of each other one train."""
    train: Pieces = []
    test: Pieces = []
    files = sorted((data / "DSB2018_120" / "images").iterdir())
    for number, file in enumerate(files):
        image, mask = Image.open(file), Image.open(data / "DSB2018_120" / "masks" / file.name)
        box = (0, 0, min(image.width, 256), min(image.height, 256))
        held_out = number % 5 == 0
        for n, pair in enumerate(_tiles(image.crop(box), mask.crop(box), 2)[: 4 if held_out else 3]):
            (test if held_out else train).append(
                _save(folder, "nucleus", f"{number:03d}_{n}", *pair, f"{number:03d}")
            )
    return train, test


def prepare(data: Path, folder: Path) -> Path:
    """Write small copies of the images, and one datalist with all tasks and one for each; return their folder."""
    if (folder / "labelled" / "datalist.json").is_file():
        return folder
    lists: dict[str, dict[str, Pieces]] = {}
    for task, make in zip(TASKS, (polyps, vessels, nuclei), strict=True):
        pieces, test = make(data, folder)
        train, validation = split_validation(pieces, 0.1, seed=0)
        lists[task] = {"training": train, "validation": validation, "test": test}
        print(f"{task}: {', '.join(f'{len(items)} {key}' for key, items in lists[task].items())}", flush=True)
        write_json(folder / task / "datalist.json", {"structures": [task], **lists[task]})
    joined = {key: [item for task in TASKS for item in lists[task][key]] for key in lists[TASKS[0]]}
    # the one student has all images, and the masks of a tenth of them
    labelled = [item for task in TASKS for item in lists[task]["training"][::LABELLED]]
    kept = {item["image"] for item in labelled}
    few = [item if item["image"] in kept else {**item, "label": {}} for item in joined["training"]]
    for name, training in (("all", few), ("labelled", labelled)):
        write_json(
            folder / name / "datalist.json", {"structures": list(TASKS), **joined, "training": training}
        )
    return folder


def bundle(run_id: str, files: list[str], log: Path, **options: Any) -> None:
    """Run one bundle command; its output goes to a log."""
    words = [
        sys.executable,
        "-m",
        "monai.bundle",
        "run",
        run_id,
        "--config_file",
        str([f"{BUNDLE}/configs/train.yaml", *files]),
    ]
    words += [word for key, value in options.items() for word in (f"--{key}", str(value))]
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open(log, "a") as stream:
        subprocess.run(words, cwd=ROOT, stdout=stream, stderr=stream, check=True, env=environment)


def common(weights: Path, out: Path, dataset: Path, seed: int) -> dict[str, Any]:
    """Options of every run."""
    last = out / "models" / "last.pt"
    return {
        "bundle_root": BUNDLE,
        "dataset_dir": dataset,
        "teacher_weights": weights,
        "output_dir": out,
        "ckpt_dir": out / "models",
        "image_size": SIZE,
        "encoder": ENCODER,
        "tap": "stride16",
        "seed": seed,
        "report": False,
        "progress": False,
        **({"resume": last} if last.exists() else {}),
    }


def train(arm: str, seed: int, folder: Path, weights: Path, runs: Path) -> Path:
    """Train one arm, or a specialist (``only <task>``), unless it is done; return its folder."""
    out = runs / f"{arm.replace(', ', '_').replace(' ', '_')}_{seed}"
    if (out / "summary.json").exists():
        return out
    task = arm.removeprefix("only ")
    options = common(weights, out, folder / (task if task != arm else "labelled"), seed)
    masks = ["configs/phases/undistilled.yaml"]
    if task != arm:
        bundle("training", masks, out / "log.txt", **options, epochs=list(EPOCHS))
        return out
    few = {"val_interval": 10, "epochs": [0, MASKS, 0]}
    if arm == LONGER:
        few["epochs"] = [0, MASKS + FEATURES * 45 // 4, 0]
    elif arm != "none":
        few["network_def#pretrained"] = agglomerate(arm, seed, folder, weights, runs, out)
    bundle("training", masks, out / "log.txt", **options, **few)
    return out


def agglomerate(arm: str, seed: int, folder: Path, weights: Path, runs: Path, out: Path) -> Path:
    """Learn the teachers' features on all images, without a mask, and return the file of the encoder."""
    place, encoder = out / "agglomerate", out / "encoder.safetensors"
    if encoder.exists():
        return encoder
    options = common(weights, place, folder / "all", seed)
    options |= {"epochs": [FEATURES, 0, 0], "val_interval": FEATURES}
    specialists, general, overlay, more = ARMS[arm]
    files = [
        "configs/teachers/imagenet_local.yaml",
        "configs/teachers/specialists.yaml",
        *([f"configs/{overlay}.yaml"] if overlay else []),
    ]
    options["specialists"] = {name: str(runs / f"only_{name}_0" / "bundle") for name in specialists}
    if not general:
        options["teachers"] = {}
    raw = ["raw"] if overlay == "targets/raw" else []  # what is stored is standardised, or not
    options["feature_store"] = (
        runs / "stores" / "_".join([*(["imagenet"] if general else []), *specialists, *raw])
    )
    stored = options["feature_store"] / "complete"
    if not stored.exists():
        bundle("features", files, place / "log.txt", **options)
        stored.touch()
    bundle("training", files, place / "log.txt", **options, **more)
    words = ["export", "--encoder-only", "--run", str(place), "--output", str(encoder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "monai_difom", *words], cwd=ROOT, check=True, env=environment)
    return encoder


def scores_of(out: Path) -> dict[str, float]:
    """Dice of every structure on the test images, and their mean."""
    found = json.loads((out / "summary.json").read_text())["test_sets"]["test"]
    if "structures" not in found:
        return {out.name.split("_")[1]: found["dice"]}
    return {**{name: s["dice"] for name, s in found["structures"].items()}, "mean": found["dice"]}


def weights_of(out: Path) -> str:
    """The balancer's last weights, and how much of each teacher the student explains."""
    file = out / "agglomerate" / "summary.json"
    if not file.exists():
        return ""
    summary = json.loads(file.read_text())
    used = [p["balance"] for p in summary.get("balancer", {}).get("phases", []) if p["balance"]]
    r2 = {name: found["r2"] for name, found in summary["collapse"].items()}
    return ", ".join(f"{name} {w:.2f} (R2 {r2[name]:.2f})" for name, w in (used[-1] if used else {}).items())


def table(results: dict[str, list[Path]]) -> str:
    """Dice by arm and task, mean of the seeds and the single ones; and the weights of the last seed."""
    lines = [
        "| teachers | polyp | vessel | nucleus | mean | last weights (R2 of the teacher's maps), first seed |",
        "|---|---|---|---|---|---|",
    ]
    for arm, outs in results.items():
        found = [scores_of(out) for out in outs]
        cells = [
            f"{mean(v):.3f} ({', '.join(f'{x:.3f}' for x in v)})"
            if (v := [s[t] for s in found if t in s])
            else ""
            for t in (*TASKS, "mean")
        ]
        lines.append(f"| {arm} | {' | '.join(cells)} | {weights_of(outs[0])} |")
    return "\n".join(lines)


def gain(results: dict[str, list[Path]], arm: str, against: str) -> Any:
    """Change of Dice against another arm, over images and structures; tiles of one image are drawn together."""
    both = [results[against], results[arm]]
    count = min(map(len, both))
    found, _ = compare_runs(*([read_run(out) for out in outs[:count]] for outs in both))["test"]["dice"]
    return found


def gain_text(results: dict[str, list[Path]], arm: str, against: str) -> str:
    """The same in words."""
    found = gain(results, arm, against)
    change, count = found.difference, min(len(results[against]), len(results[arm]))
    return (
        f"{arm} - {against}: {change.mean:+.3f} ({change.low:+.3f} to {change.high:+.3f}, {change.units} images or patients, "
        f"{count} seed(s)), sign test p = {found.p_value:.2g}"
    )


def figures(results: dict[str, list[Path]]) -> dict[str, dict[str, Any]]:
    """Return task -> arm -> Dice per seed; in ``mean``, over all tasks, also the gain over the arm ``none``."""
    found: dict[str, dict[str, Any]] = {}
    for arm, outs in results.items():
        scores = [scores_of(out) for out in outs]
        for task in (*TASKS, "mean"):
            if task in scores[0]:
                found.setdefault(task, {})[arm] = {"dice": [s[task] for s in scores]}
        if arm in ARMS and arm != "none" and "none" in results:
            change = gain(results, arm, "none").difference
            found["mean"][arm] |= {"gain": change.mean, "low": change.low, "high": change.high}
    return found


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher_weights", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "agglomeration")
    options = parser.parse_args()
    runs, weights = options.runs.resolve(), options.teacher_weights.resolve()
    folder = prepare(options.data.resolve(), runs / "data")
    results: dict[str, list[Path]] = {}
    for seed in options.seeds:
        for arm in (*(f"only {task}" for task in TASKS), *options.arms):
            results.setdefault(arm, []).append(train(arm, seed, folder, weights, runs))
            print(f"\n{table(results)}", flush=True)
    for arm in options.arms:
        if arm != "none" and "none" in results:
            print(gain_text(results, arm, "none"))
    found = figures(results)
    keep_figures(RESULTS, found)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
