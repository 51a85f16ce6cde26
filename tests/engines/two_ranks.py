"""What one process of a data-parallel run does in `test_ranks`; alone, it is the reference on the joined batch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from torch import nn

from monai_difom.engines import Distiller, Objective, Phase, Plan, PretrainSettings, SelfSupervisedTrainer
from monai_difom.engines.parallel import Learner
from monai_difom.handlers import PhaseLog, TrainingCheckpoint
from monai_difom.losses import (
    AttentionBalancer,
    Balancer,
    FeatureDistillationLoss,
    MLPBalancer,
    RunningMeanBalancer,
    TeacherDropping,
    UncertaintyBalancer,
)
from monai_difom.targets import DistillationTerm, TargetPipeline
from tests.tiny import make_teacher, make_trainer

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
    distiller = Distiller(student, targets, taps={"middle": "1"})
    objective = Objective(nn.BCEWithLogitsLoss(), balancer)
    optimizer = torch.optim.SGD([*distiller.parameters(), *objective.parameters()], lr=0.3)
    share = slice(rank * BATCH // world, (rank + 1) * BATCH // world)
    weights, totals = [], []

    def score(image: torch.Tensor) -> torch.Tensor:
        label = (image.mean(1, keepdim=True) > 0.5).float()
        logits, mapped = distiller(image)
        found = targets(image, {n: mapped[n].shape[2:] for n in NAMES})
        phase = {"segmentation": 1.0, "fine": 0.5, "coarse": 0.5}
        scored = objective(logits, label, mapped, found, targets.terms, phase)
        weights.append([scored.balance[n] for n in NAMES])
        return scored.total

    learner = Learner(score, (distiller, objective))
    learner.prepare()
    for batch in images:
        optimizer.zero_grad()
        total = learner.loss(batch[share])
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    state = torch.cat([p.detach().flatten() for p in (*student.parameters(), *objective.parameters())])
    return {"weights": torch.tensor(weights), "totals": torch.tensor(totals), "state": state}


PHASES = (
    # no gradient for the decoder, nor for the head of the second term
    Phase("features", 1, {"low": 1.0}),
    # the encoder is frozen; a term comes in after the first batch
    Phase("distil", 1, {"segmentation": 1.0, "low": [0.0, 1.0], "high": 0.5}, freeze=["downsample0"]),
    # everything learns again, no teacher
    Phase("refine", 1, {"segmentation": 1.0}),
)


class Student(nn.Sequential):
    """A network that normalises nothing: a part of a batch is trained like the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("downsample0", nn.Conv2d(3, 6, 3, 2, 1))
        self.add_module("act", nn.Tanh())
        self.add_module("downsample1", nn.Conv2d(6, 8, 3, 2, 1))
        self.add_module("up", nn.Upsample(scale_factor=4))
        self.add_module("decoder", nn.Conv2d(8, 4, 3, 1, 1))
        self.add_module("act2", nn.Tanh())
        self.add_module("head", nn.Conv2d(4, 1, 1))


def run_trainer(folder: Path, rank: int, world: int) -> dict[str, Any]:
    """Train in three phases, two batches to a step, with a fusion and a balancer that learn; batches of 4 are shared.

    Args:
        folder: holds the data; checkpoints go to ``<folder>/<world>``.
        rank: number of this process.
        world: number of processes.
    """
    torch.manual_seed(1)
    terms = [
        DistillationTerm(n, tap=tap, loss=FeatureDistillationLoss("mse", detach_target=False))
        for n, tap in (("low", "deep"), ("high", "fine"))
    ]
    student = Student()
    log = PhaseLog()
    without: dict[int, list[str]] = {}
    trainer = make_trainer(
        folder / "data",
        Plan(PHASES),
        [log, TrainingCheckpoint(folder / str(world))],
        student=student,
        taps={"deep": "downsample1", "fine": "downsample0"},
        terms=terms,
        fuse="learned",
        balancer=MLPBalancer(["low", "high"], warmup=1),
        accumulation_steps=2,
        max_grad_norm=0.5,
        batch_size=4 // world,
        sampler={"rank": rank, "world": world},
    )

    def look(*_: object) -> None:
        names = [name for name, p in trainer.learner.learned.named_parameters() if p.grad is None]
        without[trainer.state.iteration] = names

    trainer.optimizer.register_step_pre_hook(look)
    trainer.run()
    state = {name: p.detach() for name, p in trainer.learner.learned.named_parameters()}
    return {"state": state, "without": without, "epochs": log.epochs}


def pretrain(rank: int, world: int) -> dict[str, Any]:
    """Pre-train an encoder by both methods, four images per step on all processes together."""
    images = torch.randint(0, 256, (8, 3, 32, 32), generator=torch.Generator().manual_seed(4)).byte()
    found: dict[str, Any] = {}
    for method in ("mae", "moco_v3"):
        settings = PretrainSettings(
            method=method, encoder="test_vit", image_size=32, batch_size=4 // world, steps=3, width=32
        )
        trainer = SelfSupervisedTrainer(settings)
        losses = trainer.train(images, progress=False)
        state = {name: p.detach() for name, p in trainer.model.named_parameters()}
        found[method] = {"losses": losses, "state": state}
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    own_rank, together = distributed.get_rank(), distributed.get_world_size()
    place = Path(sys.argv[1])
    results: dict[str, Any] = {name: steps(name, own_rank, together) for name in BALANCERS}
    results["trainer"] = run_trainer(place, own_rank, together)
    results["pretraining"] = pretrain(own_rank, together)
    torch.save(results, place / f"rank{own_rank}.pt")
    distributed.destroy_process_group()
