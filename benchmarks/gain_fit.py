"""What students of `benchmarks/gain.py` say of the images without masks: what the teacher said there, and what is true?

    python benchmarks/gain_fit.py --runs runs/gain --protocol few   # after gain.py; its part of gain_fit.json, and gain.md

Mean Dice over the images without masks, by centre, last weights at a threshold of .5: of a student against the drawn masks, which
no training of it saw; against the teacher's soft masks, which it was trained on (alone: never saw); and of the teacher against
the drawn masks. Gains over alone with their 95 % interval (paired bootstrap over images, of ClinicDB over whole sequences, and
seeds). A student that agrees with its teacher on these images and gains nothing on new ones has learned the images, not the
task; one that agrees with it nowhere has not learned at all.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from gain_data import split_centres
from gain_results import put_between
from tqdm import tqdm

from monai_difom.apps.deployed.facts import read_deployment
from monai_difom.apps.deployed.network import load_network
from monai_difom.data import SoftMasks, clinicdb_sequence
from monai_difom.metrics import compare_paired
from monai_difom.networks.student import load_network_state
from monai_difom.transforms import read_mask, read_picture_file
from monai_difom.utils import load_state, write_json
from monai_difom.utils.weight_files import LAST_STUDENT

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "gain_fit.json"
PAGE, MARKS = RESULTS.with_name("gain.md"), ("<!-- fit -->", "<!-- end of fit -->")
ALONE, TEACHER = "alone", "the teacher"


def dice(one: np.ndarray, other: np.ndarray) -> float:
    """Return the Dice of two boolean masks; 1 where both are empty."""
    total = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / total if total else 1.0


@dataclass
class Said:
    """What was measured of the images of one centre.

    Args:
        groups: patient of every image.
        truth: arm -> seed -> Dice of every image against the drawn mask; the teacher is an arm.
        taught: the same against the teacher's mask.
    """

    groups: list[str] = field(default_factory=list)
    truth: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    taught: dict[str, dict[int, list[float]]] = field(default_factory=dict)

    def note(self, arm: str, seed: int, truth: float, taught: float) -> None:
        """Add an image."""
        for table, value in ((self.truth, truth), (self.taught, taught)):
            table.setdefault(arm, {}).setdefault(seed, []).append(value)

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return arm -> Dice by seed, agreement with the teacher, and the gain over alone with its interval."""
        found = {}
        for arm in self.truth:
            drawn, said = (np.array(list(table[arm].values())) for table in (self.truth, self.taught))
            row: dict[str, Any] = {"n": drawn.shape[1], "dice": np.round(drawn.mean(1), 4).tolist()}
            if arm != TEACHER:
                row["against_the_teacher"] = np.round(said.mean(1), 4).tolist()
            if arm != ALONE and ALONE in self.truth:
                alone = np.array(list(self.truth[ALONE].values()))
                gain = compare_paired(alone, drawn, self.groups).difference
                row |= {"gain": gain.mean, "low": gain.low, "high": gain.high}
            found[arm] = row
        return found


def students(runs: Path, protocol: str) -> list[tuple[str, int, Path]]:
    """Return arm, seed and folder of the finished students of a protocol."""
    found = []
    for done in sorted(runs.glob("*/done.json")):
        job = json.loads(done.read_text())["job"]
        if job["protocol"] == protocol and not job["arm"].startswith(
            ("masks/", "teacher/", "second teacher/")
        ):
            found.append((job["arm"], int(job["seed"]), done.parent))
    return found


@torch.inference_mode()
def fit(runs: Path, data: Path, protocol: str, count: int | None = None) -> dict[str, dict[str, Any]]:
    """Return centre -> arm -> what its students say of the images without masks, see `Said.rows`."""
    place = protocol.replace(" ", "_")
    soft = SoftMasks(runs / f"{place}_masks-teachers_0" / "masks")
    parts = split_centres(data.resolve())
    drawn = {image.name: mask for part in parts.values() for image, mask in part}
    clinic = {image.name for image, _ in parts["clinicdb"]}
    images = sorted((runs / "data" / place / "unlabelled").iterdir())
    images = sorted(random.Random(0).sample(images, min(count or len(images), len(images))))
    networks = []
    for arm, seed, run in students(runs, protocol):
        network, weights = load_network(run / "bundle"), run / "models" / LAST_STUDENT
        load_network_state(network, load_state(weights), weights, "It is of another student.")
        networks.append((arm, seed, network.eval(), read_deployment(run / "bundle")))
    centres: dict[str, Said] = {}
    for image in tqdm(images):
        picture, truth = read_picture_file(image), read_mask(drawn[image.name])
        taught = soft.read(image)[0].numpy() > 0.5
        here = image.name in clinic
        said = centres.setdefault("ClinicDB" if here else "Kvasir", Said())
        said.groups.append(f"sequence-{clinicdb_sequence(int(image.stem)):02d}" if here else image.stem)
        said.note(TEACHER, 0, dice(taught, truth), 1.0)
        for arm, seed, network, facts in networks:
            logits = network(torch.from_numpy(facts.prepare(picture)))
            found = F.interpolate(logits, truth.shape, mode="bilinear", align_corners=False)[0, 0].numpy() > 0
            said.note(arm, seed, dice(found, truth), dice(found, taught))
    return {centre: said.rows() for centre, said in sorted(centres.items())}


def table(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    """Return the Markdown table of all protocols."""
    lines = [
        "| protocol | images without masks | arm | Dice | gain over alone | against the teacher's |",
        "|---" * 6 + "|",
    ]
    for protocol, centres in results.items():
        for centre, arms in centres.items():
            for arm, row in arms.items():
                gain = (
                    f"{row['gain']:+.3f} ({row['low']:+.3f} to {row['high']:+.3f})" if "gain" in row else ""
                )
                said = f"{np.mean(row['against_the_teacher']):.3f}" if arm != TEACHER else ""
                dice_text = f"{np.mean(row['dice']):.3f}"
                lines.append(f"| {protocol} | {centre}, {row['n']} | {arm} | {dice_text} | {gain} | {said} |")
    return "\n".join(lines)


def main() -> None:
    """Measure one protocol, keep it, and put the table of all into the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "gain")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/polyp")
    parser.add_argument("--protocol", default="few")
    parser.add_argument("--count", type=int, help="so many drawn images, not all")
    options = parser.parse_args()
    kept = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    found = fit(options.runs.resolve(), options.data, options.protocol, options.count)
    # arms whose runs are on another machine stay as they were measured there
    earlier = kept.get(options.protocol, {})
    kept[options.protocol] = {centre: {**earlier.get(centre, {}), **arms} for centre, arms in found.items()}
    write_json(RESULTS, kept)
    put_between(PAGE, MARKS, table(kept))
    print(table(kept))


if __name__ == "__main__":
    main()
