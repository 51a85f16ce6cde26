"""What a balancer does with an easy, a middle and a hard teacher: weights, and how much of each the student learns.

A real agglomeration in miniature, on the synthetic swallow: one small U-Net, three teachers at its bottleneck, the trainer
of the bundles. The teachers are three depths of one random network; a deeper map is harder to match. Run from the project's
root; minutes on one core; writes benchmarks/balancers.png and prints the table of benchmarks/balancers.md:

    python benchmarks/balancers.py --work /tmp/balancers
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import torch
from monai.losses import DiceCELoss
from torch import nn
from torch.utils.data import DataLoader

from monai_difom.data import (
    STRUCTURES,
    EpochSampler,
    ViewDataset,
    loading_chain,
    make_fluoroscopy,
    plain_augmentation,
    train_validation,
    training_augmentation,
)
from monai_difom.engines import DistillationTrainer, Distiller, Objective, OneCycle, Phase, Plan
from monai_difom.handlers import CollapseMonitor, TeacherDiagnostics
from monai_difom.losses import (
    AnnotatedLoss,
    AttentionBalancer,
    Balancer,
    MLPBalancer,
    RunningMeanBalancer,
    TeacherDropping,
    UncertaintyBalancer,
    UniformBalancer,
)
from monai_difom.networks.nets import DifomUNet
from monai_difom.networks.teachers import NetworkTeacher
from monai_difom.targets import DistillationTerm, TargetPipeline

SIZE = 64
TEACHERS = ("easy", "middle", "hard")
BALANCERS: dict[str, Callable[[], Balancer]] = {
    "uniform": UniformBalancer,
    "MLP, published": lambda: MLPBalancer(TEACHERS, form="published"),
    "MLP, sound": lambda: MLPBalancer(TEACHERS),
    "attention, published": lambda: AttentionBalancer(TEACHERS, form="published"),
    "attention, sound": lambda: AttentionBalancer(TEACHERS),
    "uncertainty": lambda: UncertaintyBalancer(TEACHERS),
    "running mean": lambda: RunningMeanBalancer(TEACHERS),
    "teacher dropping": lambda: TeacherDropping(TEACHERS),
}
# those of the figure come first
SHOWN = tuple(BALANCERS)[:5]


def make_teachers() -> dict[str, NetworkTeacher]:
    """Three maps of one random network, from nearly the image to many layers away from it."""
    torch.manual_seed(5)
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 7, stride=8, padding=3)]
    for _ in range(4):
        convolution = nn.Conv2d(16, 16, 3, padding=1)
        nn.init.normal_(convolution.weight, std=0.35)
        layers += [nn.Tanh(), convolution]
    network = nn.Sequential(*layers)
    depths = {"easy": "0", "middle": "4", "hard": "8"}
    return {
        name: NetworkTeacher(network, {"map": path}, mean=[0.5] * 3, std=[0.25] * 3)
        for name, path in depths.items()
    }


def train(
    data: Path, make: Callable[[], Balancer], epochs: int, seed: int
) -> tuple[list[dict], dict[str, float]]:
    """Return the diagnostics of every epoch, and term -> R2 on the validation patients."""
    items, validation = train_validation(data, 0.2, group="frames.csv:patient")
    chain = loading_chain(SIZE, structures=STRUCTURES)
    dataset = ViewDataset(items, chain, training_augmentation(), seed=seed, progress=False)
    held_out = DataLoader(ViewDataset(validation, chain, plain_augmentation(), progress=False), batch_size=8)
    terms = [DistillationTerm(n, tap="bottleneck", source=f"{n}/map") for n in TEACHERS]
    targets = TargetPipeline(make_teachers(), terms)
    torch.manual_seed(seed)
    distiller = Distiller(DifomUNet(2, 3, len(STRUCTURES), (8, 12, 16, 24)), targets)
    objective = Objective(AnnotatedLoss(DiceCELoss(sigmoid=True)), make())
    weights = {"segmentation": 1.0, **dict.fromkeys(TEACHERS, 1.0)}
    diagnostics, monitor = TeacherDiagnostics(interval=0), CollapseMonitor(held_out)
    DistillationTrainer(
        "cpu",
        Plan([Phase("agglomerate", epochs, weights)]),
        DataLoader(dataset, batch_size=8, sampler=EpochSampler(len(dataset), seed=seed)),
        distiller,
        targets,
        objective,
        torch.optim.AdamW([*distiller.parameters(), *objective.parameters()], lr=5e-3),
        OneCycle(),
        seed=seed,
        train_handlers=[monitor, diagnostics],
    ).run()
    return diagnostics.epochs, {name: monitor.results[name]["r2"] for name in TEACHERS}


def draw(runs: dict[str, list[tuple[list[dict], dict[str, float]]]], file: Path) -> None:
    """Weights over the epochs, one panel per balancer; below them the R2 of every teacher."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    colours = dict(zip(TEACHERS, ("#0072B2", "#E69F00", "#D55E00"), strict=True))
    figure, axes = pyplot.subplots(
        2, len(SHOWN), figsize=(2.3 * len(SHOWN), 4.4), sharey="row", squeeze=False
    )
    for column, name in enumerate(SHOWN):
        for number, (epochs, _) in enumerate(runs[name]):
            for teacher in TEACHERS:
                curve = [e["balance"][teacher] for e in epochs if e["epoch"]]
                label = teacher if number == 0 else None
                axes[0, column].plot(
                    range(1, len(curve) + 1), curve, color=colours[teacher], label=label, lw=1.3
                )
        means = [sum(r2[t] for _, r2 in runs[name]) / len(runs[name]) for t in TEACHERS]
        axes[1, column].bar(TEACHERS, means, color=[colours[t] for t in TEACHERS])
        axes[0, column].set_title(name, fontsize=10)
        axes[0, column].set_xlabel("epoch", fontsize=8)
    axes[0, 0].set_ylabel("weight (mean 1)")
    axes[1, 0].set_ylabel("R2 on unseen patients")
    axes[0, 0].legend(fontsize=8, frameon=False)
    for axis in axes.flat:
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=90)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train every balancer with every seed, print the table and draw the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/balancers"), help="where the images are written"
    )
    parser.add_argument("--figure", type=Path, default=Path("benchmarks/balancers.png"))
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--patients", type=int, default=6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    make_fluoroscopy(options.work, options.patients, 0, frames=8, size=SIZE)
    runs = {}
    print(
        "| balancer | last weights: easy, middle, hard | R2 easy | R2 middle | R2 hard |\n|---|---|---|---|---|"
    )
    for name, make in BALANCERS.items():
        found = runs[name] = [train(options.work, make, options.epochs, seed) for seed in options.seeds]
        last = [sum(e[-1]["balance"][t] for e, _ in found) / len(found) for t in TEACHERS]
        scores = [f"{sum(r[t] for _, r in found) / len(found):.3f}" for t in TEACHERS]
        spread = [f"({', '.join(f'{r[t]:.3f}' for _, r in found)})" for t in TEACHERS]
        cells = " | ".join(f"{s} {d}" for s, d in zip(scores, spread, strict=True))
        print(f"| {name} | {', '.join(f'{w:.2f}' for w in last)} | {cells} |", flush=True)
        if set(SHOWN) <= set(runs):
            draw(runs, options.figure)


if __name__ == "__main__":
    main()
