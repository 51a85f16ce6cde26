"""How well a student's maps hold the teacher's, on its own centre and on one that it has never seen.

For each run of `polyp_recipes.py --protocol cross` a linear map from a tap of the trained student to the teacher's fused map
is fitted on two thirds of its training images, in closed form, and scored on the last third and on the unseen centre. R2 is the
share of the target's variance that the student explains: of the whole target, and of what is left of it when the mean over
images is taken from every position (the border of the field of view shows up in that mean, and so do the picture's corners).

    python benchmarks/feature_transfer.py --dataset_dir DATA --teacher_weights FILE --protocol cross --seeds 0

The last line is one JSON object.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from monai.data import DataLoader
from polyp_recipes import dataset_of, shared_arguments

from monai_difom.data import (
    ViewDataset,
    loading_chain,
    plain_augmentation,
    test_sets,
    train_validation,
)
from monai_difom.networks.nets import DifomUNet
from monai_difom.networks.taps import read_taps
from monai_difom.networks.teachers import timm_teacher
from monai_difom.targets import DistillationTerm, TargetPipeline
from monai_difom.utils import load_state

TAPS = ("stride8", "bottleneck")
SIZE, RIDGE = 128, 10.0
Pairs = list[dict[str, str]]
Maps = dict[str, torch.Tensor]


def loader_of(pairs: Pairs) -> DataLoader:
    """Return the images of a list of pairs as the student and the teacher see them, without augmentation."""
    data = ViewDataset(pairs, loading_chain(SIZE), plain_augmentation(), cache_rate=0.0, progress=False)
    return DataLoader(data, batch_size=16)


@torch.no_grad()
def maps_of(student: DifomUNet, targets: TargetPipeline, pairs: Pairs) -> tuple[Maps, Maps]:
    """Return the student's maps and their targets by tap, ``(images, C, *grid)``."""
    own: dict[str, list[torch.Tensor]] = {tap: [] for tap in TAPS}
    wanted: dict[str, list[torch.Tensor]] = {tap: [] for tap in TAPS}
    for batch in loader_of(pairs):
        maps = read_taps(student, batch["image"], {tap: student.taps[tap] for tap in TAPS})[1]
        found = targets(batch["teacher_image"], {tap: maps[tap].shape[2:] for tap in TAPS})
        for tap in TAPS:
            own[tap].append(maps[tap])
            wanted[tap].append(found[tap])
    return {tap: torch.cat(own[tap]) for tap in TAPS}, {tap: torch.cat(wanted[tap]) for tap in TAPS}


def rows(maps: torch.Tensor) -> torch.Tensor:
    """Return every position of every image as a row, with a one at its end."""
    flat = maps.movedim(1, -1).reshape(-1, maps.shape[1]).double()
    return torch.cat([flat, torch.ones(len(flat), 1, dtype=torch.float64)], 1)


def explained(target: torch.Tensor, found: torch.Tensor) -> float:
    """Return R2 of ``found``, of ``target``'s variance about zero."""
    return 1 - float((found - target).pow(2).sum() / target.pow(2).sum())


def transfer(student: DifomUNet, targets: TargetPipeline, sets: dict[str, Pairs]) -> dict[str, dict]:
    """Fit on the set named ``fit`` and return set -> tap -> R2 of the whole target and about its mean image."""
    maps = {name: maps_of(student, targets, pairs) for name, pairs in sets.items()}
    report: dict[str, dict] = {name: {} for name in sets if name != "fit"}
    for tap in TAPS:
        x, y = rows(maps["fit"][0][tap]), rows(maps["fit"][1][tap])[:, :-1]
        scale = x.std(0).clamp_min(1e-6)
        scale[-1] = 1
        x = x / scale
        weights = torch.linalg.solve(x.T @ x + RIDGE * torch.eye(x.shape[1], dtype=x.dtype), x.T @ y)
        for name in report:
            target = maps[name][1][tap].double()
            found = rows(maps[name][0][tap]) / scale @ weights
            found = found.view(len(target), *target.shape[2:], -1).movedim(-1, 1)
            image, level = target.mean(0, keepdim=True), target.mean((0, 2, 3), keepdim=True)
            report[name][tap] = {
                "whole": explained(target - level, found - level),
                "about_mean_image": explained(target - image, found - found.mean(0, keepdim=True)),
                "mean_image": float((image - level).pow(2).mean() / (target - level).pow(2).mean()),
            }
    return report


def main() -> None:
    """Score the runs and print one line each."""
    parser = shared_arguments(__doc__)
    parser.add_argument("--arms", nargs="+", default=["undistilled", "default"])
    options = parser.parse_args()
    dataset = dataset_of(options)
    teacher = timm_teacher(
        "mobilenetv2_100",
        options.teacher_weights,
        pad_type="same",
        mean=[0.5] * 3,
        std=[0.5] * 3,
        out_indices=[2, 3, 4],
        input_size=2 * SIZE,
    )
    pairs, _ = train_validation(dataset, 0.1, 0)
    border = 2 * len(pairs) // 3
    tests = {name: found for name, found in test_sets(dataset).items() if name.startswith("ClinicDB")}
    sets = {"fit": pairs[:border], "own centre": pairs[border:], **tests}
    targets = TargetPipeline(
        {"imagenet": teacher}, [DistillationTerm(tap, tap=tap) for tap in TAPS], fuse_channels=96
    )
    targets.fit([batch["teacher_image"] for batch in loader_of(pairs[:256])])
    found: dict[str, dict] = {}
    for arm in options.arms:
        for seed in options.seeds:
            run: Path = options.runs / f"{options.protocol}_{arm}_{seed}"
            student = DifomUNet()
            student.load_state_dict(load_state(run / "models" / "model.pt"))
            found[run.name] = transfer(student.eval(), targets, sets)
            for name, taps in found[run.name].items():
                for tap, scores in taps.items():
                    print(run.name, name, tap, {k: round(v, 3) for k, v in scores.items()}, flush=True)
    print(json.dumps({name: found[name] for name in found}))


if __name__ == "__main__":
    main()
