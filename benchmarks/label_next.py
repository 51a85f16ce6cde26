"""Does it help to ask the teachers what to label next? 25 labels, then 50 and 100, asked for or at random.

    python benchmarks/label_next.py --dataset_dir ../shared/data/polyp \
        --teacher_weights ../shared/weights/efficientnet_lite2_imagenet.safetensors --output_dir runs/label_next

Each seed draws 25 of Kvasir's training images; a teacher (a U-Net on EfficientNet-Lite2, two members, 128 pixels) is adapted to
their masks and labels the rest. From there three ways go on with 25 and then 50 more masks: the first rows of `label_next.csv`,
its rows in even steps from top to bottom, or images at random. Scored is the adapted teacher itself on Kvasir's 100 test images;
it is adapted equally long on each number of masks. All steps are resumable: the same line goes on where it was. `--report` reads
what is there. A seed takes about an hour of one core.

The last line is one JSON object, which is also written to benchmarks/label_next.json: for each number of masks and way the Dice,
one per seed, and the gain over chance with its interval (paired bootstrap over images and seeds).
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import random
from pathlib import Path
from typing import Any

import numpy as np

from monai_difom.apps import Adaptation, label_images
from monai_difom.apps.autolabel.ranking import spread
from monai_difom.data import split_validation, test_sets, train_validation, training_augmentation
from monai_difom.metrics import compare_paired
from monai_difom.utils import write_json

LABELS = (25, 50, 100)
#: at random; the first rows of the table; rows in even steps from its top to its bottom
WAYS = ("random", "next", "spread")
RESULT = Path(__file__).with_suffix(".json")
Items = list[dict[str, Any]]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset_dir", required=True)
    parser.add_argument(
        "--teacher_weights", default=None, help="EfficientNet-Lite2 in timm's layout (random weights)"
    )
    parser.add_argument("--output_dir", type=Path, default=Path("runs/label_next"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--labels", type=int, nargs="+", default=LABELS)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--image_size", type=int, default=128)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--encoder", default="tf_efficientnet_lite2")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--result", type=Path, default=RESULT)
    return parser.parse_args()


def pool_of(options: argparse.Namespace) -> tuple[Items, Items, dict[str, Items]]:
    """Images that can be labelled, validation images, and the test set: of Kvasir alone."""
    train, validation = train_validation(options.dataset_dir)
    own = [
        [i for i in part if not str(i["group"]).startswith("CVC-ClinicDB")] for part in (train, validation)
    ]
    sets = test_sets(options.dataset_dir)
    name = "Kvasir" if "Kvasir" in sets else sorted(sets)[0]
    # a person who labels 25 images has no 90 more to validate on
    few = own[1][: options.labels[0]] or split_validation(own[0], 0.1)[1]
    return own[0], few, {name: sets[name]}


def adapt(options: argparse.Namespace, seed: int, chosen: Items, folder: Path) -> None:
    """Adapt a teacher to the masks of the chosen images; done once."""
    _, validation, tests = pool_of(options)
    definition = {
        "_target_": "monai_difom.networks.nets.LightSegmenter",
        "encoder": options.encoder,
        "pretrained": options.teacher_weights or False,
        "decoder": "unet",
        "mean": [127 / 255] * 3,
        "std": [128 / 255] * 3,
    }
    steps = min(50, options.steps)
    settings = {
        "epochs": max(1, options.steps // steps),
        "epoch_steps": steps,
        "encoder_rate": 0.3,
        "ema": 0.98,
    }
    Adaptation(
        definition,
        chosen,
        validation,
        folder,
        options.image_size,
        tests,
        seeds=options.members,
        seed=100 * seed,
        settings={**settings, "learning_rate": 0.002, "batch_size": min(16, len(chosen))},
        augmentation=training_augmentation(rotate=180, scale=(0.7, 1.4), shift=0.1),
        progress=False,
    ).run()


def choose(way: str, folder: Path, chosen: Items, pool: Items, count: int, seed: int) -> Items:
    """Return the chosen images with more of the pool, ``count`` in all."""
    taken = {item["image"] for item in chosen}
    left = [item for item in pool if item["image"] not in taken]
    more = count - len(chosen)
    if way == "random":
        return [*chosen, *random.Random(seed + count).sample(left, more)]
    with open(folder / "label_next.csv", newline="", encoding="utf-8") as stream:
        asked = [row for row in csv.DictReader(stream) if row["image"] not in taken]
    by_path = {item["image"]: item for item in left}
    return [
        *chosen,
        *(by_path[row["image"]] for row in (asked[:more] if way == "next" else spread(asked, more))),
    ]


def run(options: argparse.Namespace) -> None:
    """Go both ways for every seed."""
    pool, _, _ = pool_of(options)
    for seed in options.seeds:
        root = options.output_dir / f"seed{seed}"
        first = random.Random(seed).sample(pool, options.labels[0])
        adapt(options, seed, first, root / str(options.labels[0]))
        for way in WAYS:
            chosen, teacher = first, root / str(options.labels[0])
            for count in options.labels[1:]:
                asked = teacher / "soft"
                if way != "random" and not (asked / "label_next.csv").is_file():
                    label_images([teacher], pool, asked, views=options.views, shown=0, progress=False)
                chosen = choose(way, asked, chosen, pool, count, seed)
                teacher = root / f"{way}{count}"
                adapt(options, seed, chosen, teacher)
                logging.info("seed %d, %s, %d labels: done", seed, way, count)


def dice_of(folder: Path) -> np.ndarray:
    """Dice of every test image, by all members together."""
    (file,) = (folder / "together").glob("*.csv")
    with open(file, newline="", encoding="utf-8") as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: row["image"])
    return np.array([float(row["dice"]) for row in rows])


def report(options: argparse.Namespace) -> dict[str, Any]:
    """Read all that is finished, compare both ways, write and return the result."""
    result: dict[str, Any] = {
        "steps": options.steps,
        "members": options.members,
        "image_size": options.image_size,
    }
    start = [options.output_dir / f"seed{seed}" / str(options.labels[0]) for seed in options.seeds]
    result[str(options.labels[0])] = [
        float(dice_of(f).mean()) for f in start if (f / "teacher.json").is_file()
    ]
    for count in options.labels[1:]:
        folders = {
            way: [options.output_dir / f"seed{s}" / f"{way}{count}" for s in options.seeds] for way in WAYS
        }
        for way in WAYS:
            done = [
                n
                for n in range(len(options.seeds))
                if all((folders[w][n] / "teacher.json").is_file() for w in {way, "random"})
            ]
            if not done:
                continue
            scores, chance = (np.stack([dice_of(folders[w][n]) for n in done]) for w in (way, "random"))
            cell: dict[str, Any] = {"dice": [round(float(run.mean()), 4) for run in scores]}
            if way != "random":
                gain = compare_paired(chance, scores).difference
                cell |= {name: round(getattr(gain, name), 4) for name in ("mean", "low", "high")}
                cell["gain"] = cell.pop("mean")
            result.setdefault(str(count), {})[way] = cell
    write_json(options.result, result)
    return result


def main() -> None:
    """Train what is missing, report what is there."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options = arguments()
    if not options.report:
        run(options)
    print(json.dumps(report(options)))


if __name__ == "__main__":
    main()
