"""What one process of a data-parallel run does in `test_ranks`; alone, it is the reference on the joined batch."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from monai_difom.engines import Distiller, Objective
from monai_difom.losses import (
    AttentionBalancer,
    Balancer,
    MLPBalancer,
    RunningMeanBalancer,
    TeacherDropping,
    UncertaintyBalancer,
)
from monai_difom.targets import DistillationTerm, TargetPipeline
from tests.tiny import make_teacher

NAMES = ["fine", "coarse"]
STEPS, BATCH, SIZE = 4, 4, 16


def make_balancer(name: str) -> Balancer:
    """The balancer of a name, warmed up fast enough to do something in a few steps."""
    torch.manual_seed(0)
    return {
        "running_mean": lambda: RunningMeanBalancer(NAMES),
        "uncertainty": lambda: UncertaintyBalancer(NAMES),
        "dropping": lambda: TeacherDropping(NAMES),
        "mlp": lambda: MLPBalancer(NAMES, warmup=1),
        "attention": lambda: AttentionBalancer(NAMES, warmup=1),
        "published_mlp": lambda: MLPBalancer(NAMES, form="published"),
        "published_attention": lambda: AttentionBalancer(NAMES, form="published"),
    }[name]()


BALANCERS = (
    "running_mean",
    "uncertainty",
    "dropping",
    "mlp",
    "attention",
    "published_mlp",
    "published_attention",
)


def steps(name: str, rank: int, world: int) -> dict[str, torch.Tensor]:
    """Train a few steps on this rank's share of each batch; return weights, losses and the student's parameters."""
    balancer = make_balancer(name)
    teacher = make_teacher()
    terms = [DistillationTerm(n, tap="middle", source=f"tiny/{n}") for n in NAMES]
    targets = TargetPipeline({"tiny": teacher}, terms)
    generator = torch.Generator().manual_seed(3)
    images = torch.rand(STEPS, BATCH, 3, SIZE, SIZE, generator=generator)
    targets.fit(list(images))
    torch.manual_seed(1)
    # no batch norm: its statistics are each rank's own
    student = nn.Sequential(
        nn.Conv2d(3, 6, 3, 4, 1), nn.Tanh(), nn.Conv2d(6, 1, 1), nn.Upsample(scale_factor=4)
    )
    distiller: nn.Module = Distiller(student, targets, taps={"middle": "1"})
    objective = Objective(nn.BCEWithLogitsLoss(), balancer)
    if world > 1:
        distiller = DistributedDataParallel(distiller)
    optimizer = torch.optim.SGD([*distiller.parameters(), *objective.parameters()], lr=0.3)
    share = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    weights, totals = [], []
    for batch in images:
        image = batch[share]
        label = (image.mean(1, keepdim=True) > 0.5).float()
        logits, mapped = distiller(image)
        found = targets(image, {n: mapped[n].shape[2:] for n in NAMES})
        phase = {"segmentation": 1.0, "fine": 0.5, "coarse": 0.5}
        scored = objective(logits, label, mapped, found, targets.terms, phase)
        optimizer.zero_grad()
        scored.total.backward()
        optimizer.step()
        weights.append([scored.balance[n] for n in NAMES])
        totals.append(float(scored.total))
    state = torch.cat([p.detach().flatten() for p in (*student.parameters(), *objective.parameters())])
    return {"weights": torch.tensor(weights), "totals": torch.tensor(totals), "state": state}


if __name__ == "__main__":
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    own_rank = distributed.get_rank()
    results = {name: steps(name, own_rank, distributed.get_world_size()) for name in BALANCERS}
    torch.save(results, Path(sys.argv[1]) / f"rank{own_rank}.pt")
    distributed.destroy_process_group()
