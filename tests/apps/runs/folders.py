"""Folders of runs as a training leaves them, without a training."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from monai_difom.apps.runs.keep_examples import save_examples
from monai_difom.data import evaluation_chain, make_polyps, test_sets
from monai_difom.networks.nets import DifomUNet

ALL = [
    "dice",
    "iou",
    "precision",
    "recall",
    "mean_dice_256",
    "mean_iou_256",
    "mae",
    "weighted_f",
    "s_measure",
    "e_measure_max",
    "e_measure_mean",
    "hd95",
    "nsd",
    "height",
    "width",
    "foreground",
    "empty_mask",
    "false_positive",
    "undefined_hd95",
]
OLD = ["dice", "iou", "hd95", "empty_mask", "undefined_hd95"]


def write_scores(file: Path, images: list[str], shift: float = 0.0, columns: list[str] | None = None) -> None:
    """Write a table of random scores; ``shift`` is added to every Dice."""
    rng = np.random.default_rng(0)
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", newline="") as stream:
        writer = csv.DictWriter(stream, ["image", *(columns or ALL)])
        writer.writeheader()
        for image in images:
            row = {name: rng.uniform(0.2, 0.7) for name in ALL}
            row.update(height=72, width=72, foreground=int(rng.uniform(10, 2000)), hd95=rng.uniform(1, 40))
            row.update(dict.fromkeys(("empty_mask", "false_positive", "undefined_hd95"), 0.0))
            row["dice"] += shift
            writer.writerow({"image": image, **{name: row[name] for name in columns or ALL}})


def write_training(folder: Path, terms: tuple[str, ...] = (), collapsed: bool = False) -> None:
    """Write history, summary and one sheet of pictures of a run of two phases."""
    folder.mkdir(parents=True, exist_ok=True)
    history, weights = [], {"segmentation": 1.0, **dict.fromkeys(terms, 1.5)}
    for epoch in range(1, 7):
        used = weights if epoch <= 4 else {"segmentation": 1.0}
        history.append(
            {
                "epoch": epoch,
                "phase": "distil" if epoch <= 4 else "refine",
                "terms": dict.fromkeys(used, 1 / epoch),
                "weights": used,
                "lr": 0.001,
                "validation": {"val_dice": 0.1 * epoch},
                "seconds": 30.0,
            }
        )
    found = {"r2": 0.5, "target_variance": 0.7, "effective_rank": 12.0, "collapsed": collapsed, "epoch": 4}
    summary = {
        "test_sets": {},
        "phases": [
            {"name": "distil", "epochs": 4, "terms": weights, "weights": weights},
            {"name": "refine", "epochs": 2, "terms": {}, "weights": {"segmentation": 1.0}},
        ],
        "collapse": {term: {**found, "phase": "distil"} for term in terms},
        "best": {"best": 0.6, "best_epoch": 6},
        "teachers": {
            "imagenet": {
                "source": "a <b>file</b>",
                "licence": "Apache-2.0",
                "signature": "abc",
                "parameters": 9,
            }
        }
        if terms
        else {},
        "student": {"network": "DifomUNet", "parameters": 1234567},
        "versions": {"monai_difom": "0.1.0"},
    }
    (folder / "history.json").write_text(json.dumps(history))
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "pictures").mkdir(exist_ok=True)
    Image.new("RGB", (160, 80), "teal").save(folder / "pictures" / "004_distil.png")


def write_pair(folder: Path) -> tuple[Path, Path, Path]:
    """Write an undistilled and a distilled run on the same synthetic test set; return them and the data."""
    data = folder / "data"
    make_polyps(data, train=2, test=9, size=72, seed=1)
    sets = test_sets(data)
    images = [item["image"] for item in sets["synthetic"]]
    runs = []
    for name, shift, terms in (("alone", 0.0, ()), ("distilled", 0.2, ("bottleneck", "stride8"))):
        run = folder / name
        write_scores(run / "synthetic.csv", images, shift)
        write_training(run, terms)
        save_examples(DifomUNet(2, 3, 1, (4, 6, 8)), sets, evaluation_chain(32), run)
        runs.append(run)
    return runs[0], runs[1], data
