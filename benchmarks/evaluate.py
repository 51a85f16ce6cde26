"""Images per second of `monai_difom evaluate`, against a plain loop over PySODMetrics and MONAI's surface distances.

Both read the same maps and masks from disk, at native size, and give the same scores, which is checked. The loop is what a
person writes from the two libraries' documentation: MAE, S-measure, E-measure and weighted F step by step, Dice and IoU over
thresholds by PySODMetrics' ``FmeasureV2``, HD95 and surface Dice by MONAI, Dice, IoU, precision and recall by numpy. Rounds of
the two alternate, so that a busy machine slows both: the speedup is the median over rounds of their ratio, the speeds are those
of the fastest round of each.

    python benchmarks/evaluate.py --data DATA

DATA holds ``prediction_maps/<model>/<set>`` and ``polyp/TestDataset/<set>/masks``. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import py_sod_metrics
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from PIL import Image

from monai_difom.apps import evaluate_folders
from monai_difom.metrics import SCORES

SETS = ("Kvasir", "CVC-ClinicDB")
TOLERANCE = 2.0
# maximum relative difference that counts as the same number: MONAI measures distances in single precision
SAME = 1e-6


def link_images(data: Path, model: str, folder: Path, images: int | None) -> None:
    """Link the maps and masks of all sets into two folders; of every set the same share when ``images`` are wanted."""
    pairs = []
    for name in SETS:
        masks = sorted((data / "polyp" / "TestDataset" / name / "masks").iterdir())
        pairs += [(data / "prediction_maps" / model / name / mask.name, mask) for mask in masks]
    step = 1 if images is None else max(1, len(pairs) // images)
    for kind in ("maps", "masks"):
        (folder / kind).mkdir()
    for prediction, mask in pairs[::step][:images]:
        (folder / "maps" / prediction.name).symlink_to(prediction.resolve())
        (folder / "masks" / mask.name).symlink_to(mask.resolve())


def plain_loop(predictions: Path, masks: Path) -> list[dict[str, float]]:
    """Score every image with the two libraries, one after the other."""
    return [_plain_scores(predictions / mask.name, mask) for mask in sorted(masks.iterdir())]


def _plain_scores(map_file: Path, mask_file: Path) -> dict[str, float]:
    levels, truth = (np.asarray(Image.open(file)) for file in (map_file, mask_file))
    mask = truth > 0
    found = levels / 255 >= 0.5
    both, either = (found & mask).sum(), (found | mask).sum()
    mae, s, e, w = (
        getattr(py_sod_metrics, name)() for name in ("MAE", "Smeasure", "Emeasure", "WeightedFmeasure")
    )
    curves = {"with_dynamic": True, "with_adaptive": False}
    averaged = py_sod_metrics.FmeasureV2(
        {
            "dice": py_sod_metrics.DICEHandler(**curves),
            "iou": py_sod_metrics.IOUHandler(**curves),
        }
    )
    mae.step(levels / 255, mask, normalize=False)  # of the map as it is
    for metric in (s, e, w, averaged):
        metric.step(levels, truth)
    pair = [torch.from_numpy(array)[None, None] for array in (found, mask)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95)
        nsd = compute_surface_dice(*pair, [TOLERANCE], include_background=True)
    curve, means = e.get_results()["em"]["curve"], averaged.get_results()
    return {
        "dice": 2 * both / (found.sum() + mask.sum()),
        "iou": both / either,
        "precision": both / found.sum(),
        "recall": both / mask.sum(),
        "mean_dice_256": means["dice"]["dynamic"].mean(),
        "mean_iou_256": means["iou"]["dynamic"].mean(),
        "mae": mae.get_results()["mae"],
        "weighted_f": w.get_results()["wfm"],
        "s_measure": s.get_results()["sm"],
        "e_measure_max": curve.max(),
        "e_measure_mean": curve.mean(),
        "hd95": float(hd95),
        "nsd": float(nsd),
    }


def differences(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> dict[str, float]:
    """Return for every score the largest difference of an image, relative where the score is above 1."""
    return {
        key: max(abs(a[key] - b[key]) / max(1.0, abs(b[key])) for a, b in zip(ours, theirs, strict=True))
        for key in SCORES
    }


def timed(run: Callable[[], list[dict[str, float]]]) -> tuple[float, float, list[dict[str, float]]]:
    """Return the seconds of a call, those of the processor, and what it returned."""
    begun, used = time.perf_counter(), time.process_time()
    rows = run()
    return time.perf_counter() - begun, time.process_time() - used, rows


def main() -> None:
    """Measure, check that the scores agree, and print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("DIFOM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--model", default="PraNet_official", help="folder of prediction_maps")
    parser.add_argument("--workers", type=int, default=2, help="threads of evaluate (2)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, help="score only about so many images")
    parser.add_argument("--quick", action="store_true", help="40 images, three rounds: under a minute")
    options = parser.parse_args()
    if options.quick:
        options.images, options.rounds = 40, 3
    # the loop's tensors are too small for threads, which would only slow it on a busy machine
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        link_images(options.data, options.model, Path(folder), options.images)
        places = Path(folder) / "maps", Path(folder) / "masks"
        seconds: dict[str, list[float]] = {"plain": [], "ours": []}
        work: dict[str, list[float]] = {"plain": [], "ours": []}
        sides = {
            "plain": lambda: plain_loop(*places),
            "ours": lambda: evaluate_folders(*places, tolerance=TOLERANCE, workers=options.workers).rows,
        }
        rows: dict[str, list[dict[str, float]]] = {}
        for number in range(1, options.rounds + 1):
            for name, run in sides.items():
                taken, used, rows[name] = timed(run)
                seconds[name].append(taken)
                work[name].append(used)
            shown = ", ".join(f"{name} {taken[-1]:.2f} s" for name, taken in seconds.items())
            print(f"round {number}: {shown}", flush=True)
    ours, theirs = rows["ours"], rows["plain"]
    apart = differences(ours, theirs)
    n = len(ours)
    speed = {name: n / min(times) for name, times in seconds.items()}
    result = {
        "images": n,
        "workers": options.workers,
        "cpus": os.cpu_count(),
        "plain_images_per_second": round(speed["plain"], 1),
        "ours_images_per_second": round(speed["ours"], 1),
        "speedup": round(float(np.median(np.divide(seconds["plain"], seconds["ours"]))), 2),
        # of processor time: what a busy machine leaves of it
        "speedup_per_core": round(float(np.median(np.divide(work["plain"], work["ours"]))), 2),
        "same_numbers": max(apart.values()) <= SAME,
        "largest_difference": {key: float(f"{value:.1e}") for key, value in apart.items()},
    }
    print(json.dumps(result))
    if not result["same_numbers"]:
        raise SystemExit("the scores of the two differ")


if __name__ == "__main__":
    main()
