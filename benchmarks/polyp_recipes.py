"""Undistilled, distilled and the published recipe on real polyps, with the bundle's own command.

Every run is one `python -m monai.bundle run training` at equal training: same student, images, epochs and learning rate.
A run that was interrupted is resumed, a finished one is not repeated; the table is written after each.

    python benchmarks/polyp_recipes.py --dataset_dir DATA --teacher_weights FILE --seeds 0 1

`--protocol mixed` trains on the whole training set (Kvasir and CVC-ClinicDB) and tests on both centres' test sets.
`--protocol cross` trains on Kvasir alone and tests on all 612 frames of CVC-ClinicDB, a centre it has never seen.
`--times 3` trains for 60 epochs in place of 20, `--limit 100` on the first 100 training images.
The last line is one JSON object.
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

from monai_difom.apps.runs.compare import compare_runs
from monai_difom.apps.runs.run import read_run

ROOT = Path(__file__).resolve().parents[1]
# arm -> overlays, and its share of 20 epochs by phase
ARMS = {
    "undistilled": (["configs/phases/undistilled.yaml"], (4, 10, 6)),
    "default": ([], (4, 10, 6)),
    "paper": (["configs/phases/paper.yaml"], (7, 7, 6)),
}


def link_cross_centre(dataset: Path, folder: Path) -> Path:
    """Lay out Kvasir as training set and all of CVC-ClinicDB as test set, by links."""
    source = dataset / "TrainDataset"
    places = {
        "TrainDataset/image": [p for p in (source / "image").iterdir() if not p.stem.isdigit()],
        "TrainDataset/mask": [p for p in (source / "mask").iterdir() if not p.stem.isdigit()],
        "TestDataset/ClinicDB-612/images": [p for p in (source / "image").iterdir() if p.stem.isdigit()],
        "TestDataset/ClinicDB-612/masks": [p for p in (source / "mask").iterdir() if p.stem.isdigit()],
        "TestDataset/Kvasir/images": list((dataset / "TestDataset/Kvasir/images").iterdir()),
        "TestDataset/Kvasir/masks": list((dataset / "TestDataset/Kvasir/masks").iterdir()),
    }
    for kind in ("images", "masks"):
        places[f"TestDataset/ClinicDB-612/{kind}"] += list(
            (dataset / "TestDataset/CVC-ClinicDB" / kind).iterdir()
        )
    for place, files in places.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        for file in files:
            link = folder / place / file.name
            with suppress(FileExistsError):  # another process may lay out the same folder
                link.symlink_to(file.resolve())
    return folder


def command(
    arm: str, seed: int, dataset: Path, weights: Path, out: Path, times: int = 1, limit: int | None = None
) -> list[str]:
    """Return the bundle command of one run of so many times 20 epochs, on all training images or the first ones."""
    overlays, epochs = ARMS[arm]
    files = ["bundles/polyp_difom/configs/train.yaml", "configs/teachers/imagenet_local.yaml", *overlays]
    last = out / "models" / "last.pt"
    options = {
        "bundle_root": "bundles/polyp_difom",
        "config_file": str(files),
        "dataset_dir": dataset,
        "teacher_weights": weights,
        "output_dir": out,
        "ckpt_dir": out / "models",
        "image_size": 128,
        "epochs": [times * count for count in epochs],
        "seed": seed,
        "amp": True,
        "progress": False,
        **({"limit": limit} if limit else {}),
        **({"resume": last} if last.exists() else {}),
    }
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    return [sys.executable, "-m", "monai.bundle", "run", "training", *words]


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """Return the results as a Markdown table, one row per arm, mean and single seeds of each test set's Dice."""
    sets = sorted({name for scores in results.values() for name in scores})
    lines = ["| recipe | " + " | ".join(sets) + " |", "|---" * (len(sets) + 1) + "|"]
    for arm, scores in results.items():
        cells = [
            f"{mean(v):.3f} ({', '.join(f'{x:.3f}' for x in v)})" for v in (scores[name] for name in sets)
        ]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def gain(runs: Path, protocol: str, arm: str, seeds: list[int], name: str) -> str:
    """Gain over the undistilled student with its paired interval over sequences (or images) and seeds."""
    sides = [[read_run(runs / f"{protocol}_{a}_{seed}") for seed in seeds] for a in ("undistilled", arm)]
    found, _ = compare_runs(*sides)[name]["dice"]
    change = found.difference
    units = f"{change.units} sequences" if change.units < change.images else f"{change.images} images"
    return f"{change.mean:+.3f} ({change.low:+.3f} to {change.high:+.3f}, {units}), sign test p = {found.p_value:.2g}"


def shared_arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with what every polyp benchmark takes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset_dir", type=Path, required=True)
    parser.add_argument("--teacher_weights", type=Path, required=True)
    parser.add_argument("--protocol", choices=("mixed", "cross"), default="mixed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "benchmark")
    return parser


def dataset_of(options: argparse.Namespace) -> Path:
    """Return the folder of images of the chosen protocol."""
    dataset = options.dataset_dir.resolve()
    if options.protocol == "cross":
        return link_cross_centre(dataset, options.runs.resolve() / "kvasir_to_clinicdb")
    return dataset


def main() -> None:
    """Run what is missing and print the table."""
    parser = shared_arguments(__doc__)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--times", type=int, default=1, help="train for so many times 20 epochs")
    parser.add_argument("--limit", type=int, help="use the first so many training images")
    options = parser.parse_args()
    dataset = dataset_of(options)
    # runs of another length or on fewer images lie beside the others
    protocol = options.protocol + (f"_x{options.times}" if options.times > 1 else "")
    protocol += f"_limit{options.limit}" if options.limit else ""
    results: dict[str, dict[str, list[float]]] = {}
    for seed in options.seeds:
        for arm in options.arms:
            out = options.runs.resolve() / f"{protocol}_{arm}_{seed}"
            if not (out / "summary.json").exists():
                out.mkdir(parents=True, exist_ok=True)
                with open(out / "log.txt", "a") as log:
                    weights = options.teacher_weights.resolve()
                    words = command(arm, seed, dataset, weights, out, options.times, options.limit)
                    subprocess.run(words, cwd=ROOT, stdout=log, stderr=log, check=True, env=os.environ)
            scores = json.loads((out / "summary.json").read_text())["test_sets"]
            for name, score in scores.items():
                results.setdefault(arm, {}).setdefault(name, []).append(score["dice"])
            print(table(results), flush=True)
    for arm in results:
        if arm != "undistilled" and "undistilled" in results:
            for name in sorted(results[arm]):
                change = gain(options.runs, protocol, arm, options.seeds, name)
                print(f"{arm} - undistilled, {name}: {change}")
    print(json.dumps({"protocol": protocol, "seeds": options.seeds, "dice": results}))


if __name__ == "__main__":
    main()
