"""What students of `benchmarks/gain.py` say of the images without masks: what the teacher said there, and what is true?

    python benchmarks/gain_fit.py --runs runs/gain --protocol few           # after gain.py; writes its part of gain_fit.json

Mean Dice over a drawn sample of the images without masks, by centre, last weights at a threshold of .5: of a student against the
drawn masks, which no training of it saw; against the teacher's soft masks, which it was trained on (alone: never saw); and of the
teacher against the drawn masks. A student that agrees with its teacher on these images and gains nothing on new ones has learned
the images, not the task; one that agrees with it nowhere has not learned at all.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from statistics import mean

import numpy as np
import torch
import torch.nn.functional as F
from gain_data import split_centres

from monai_difom.apps.deployed.facts import read_deployment
from monai_difom.apps.deployed.network import load_network
from monai_difom.data import SoftMasks
from monai_difom.networks.student import load_network_state
from monai_difom.transforms import read_mask, read_picture_file
from monai_difom.utils import load_state, write_json
from monai_difom.utils.weight_files import LAST_STUDENT

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "gain_fit.json"
NOT_STUDENTS = ("masks-", "teacher-")


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Dice of two boolean masks; 1 where both are empty."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


def students(runs: Path, protocol: str) -> dict[str, Path]:
    """Return arm and seed -> folder of the finished students of a protocol."""
    start = protocol.replace(" ", "_") + "_"
    found = {}
    for done in sorted(runs.glob(f"{start}*/done.json")):
        name = done.parent.name.removeprefix(start)
        if not name.startswith(NOT_STUDENTS):
            found[name] = done.parent
    return found


@torch.inference_mode()
def fit(runs: Path, data: Path, protocol: str, count: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return centre -> arm and seed -> mean Dice against drawn masks and against the teacher's."""
    folder = runs / "data" / protocol.replace(" ", "_")
    soft = SoftMasks(runs / f"{protocol.replace(' ', '_')}_masks-teachers_0" / "masks")
    parts = split_centres(data.resolve())
    drawn = {image.name: mask for part in parts.values() for image, mask in part}
    clinic = {image.name for image, _ in parts["clinicdb"]}
    images = sorted((folder / "unlabelled").iterdir())
    images = sorted(random.Random(0).sample(images, min(count, len(images))))
    networks = {}
    for name, run in students(runs, protocol).items():
        network = load_network(run / "bundle")
        weights = run / "models" / LAST_STUDENT
        load_network_state(network, load_state(weights), weights, "It is of another student.")
        networks[name] = (network.eval(), read_deployment(run / "bundle"))
    scores: dict[str, dict[str, dict[str, list[float]]]] = {}
    for image in images:
        picture, truth = read_picture_file(image), read_mask(drawn[image.name])
        taught = soft.read(image)[0].numpy() > 0.5
        row = scores.setdefault("ClinicDB" if image.name in clinic else "Kvasir", {})
        row.setdefault("teacher", {}).setdefault("truth", []).append(dice(taught, truth))
        for name, (network, facts) in networks.items():
            logits = network(torch.from_numpy(facts.prepare(picture)))
            found = F.interpolate(logits, truth.shape, mode="bilinear", align_corners=False)[0, 0].numpy() > 0
            for kind, mask in (("truth", truth), ("teacher", taught)):
                row.setdefault(name, {}).setdefault(kind, []).append(dice(found, mask))
    return {
        centre: {
            arm: {"n": len(kinds["truth"]), **{k: round(mean(v), 4) for k, v in kinds.items()}}
            for arm, kinds in arms.items()
        }
        for centre, arms in scores.items()
    }


def main() -> None:
    """Measure one protocol, keep it, and print its table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "gain")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/polyp")
    parser.add_argument("--protocol", default="few")
    parser.add_argument("--count", type=int, default=400, help="images of the sample")
    options = parser.parse_args()
    found = fit(options.runs.resolve(), options.data, options.protocol, options.count)
    kept = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    write_json(RESULTS, {**kept, options.protocol: found})
    print(
        "| images without masks | arm | against the drawn masks | against the teacher's |\n|---|---|---|---|"
    )
    for centre, arms in found.items():
        for arm, row in arms.items():
            print(f"| {centre}, {row['n']} | {arm} | {row['truth']:.3f} | {row.get('teacher', 1):.3f} |")


if __name__ == "__main__":
    main()
