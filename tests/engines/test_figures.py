"""What steps cost is read together: no step waits for the device, and nothing is saved before a look at the losses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from torch.utils._python_dispatch import TorchDispatchMode

from monai_difom.engines import DistillationTrainer, Phase, Plan
from monai_difom.engines.figures import FigureEvents
from monai_difom.handlers import PhaseLog, TeacherDiagnostics, TrainingCheckpoint, TrainingProgress
from monai_difom.losses import (
    AttentionBalancer,
    Balancer,
    MLPBalancer,
    RunningMeanBalancer,
    StaticBalancer,
    TeacherDropping,
    UncertaintyBalancer,
)

from ..tiny import make_data, make_plan, make_teacher, make_trainer

NAMES = ["low", "high"]
BALANCERS: list[Balancer | None] = [
    None,
    StaticBalancer({"low": 1.0, "high": 2.0}),
    RunningMeanBalancer(NAMES),
    UncertaintyBalancer(NAMES),
    TeacherDropping(NAMES),
    MLPBalancer(NAMES, warmup=1),
    AttentionBalancer(NAMES, warmup=1),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("polyps"))


class Waits(TorchDispatchMode):
    """Counts how often a number of a tensor is asked for: on a GPU, each time the host waits for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            self.count += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def counted(trainer: DistillationTrainer) -> Iterator[list[int]]:
    """Yield the number of waits of every step of a trainer, without those of its optimiser."""
    found: list[int] = []
    step = trainer._process_function

    def watched(*args: Any) -> Any:
        with Waits() as waits:
            output = step(*args)
        found.append(waits.count)
        return output

    trainer._process_function = watched
    yield found


@pytest.mark.parametrize("balancer", BALANCERS, ids=lambda balancer: type(balancer).__name__)
def test_no_step_waits_for_the_device(data: Path, balancer: Balancer | None) -> None:
    plan = Plan([Phase("distil", 2, {"segmentation": 1.0, "low": [1.0, 0.0], "high": 0.5})])
    handlers = [TrainingProgress(enabled=False), PhaseLog(), TeacherDiagnostics(interval=0)]
    trainer = make_trainer(data, plan, handlers, balancer=balancer, max_grad_norm=1.0)
    learned = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    trainer.optimizer = torch.optim.SGD(learned, lr=0.01)  # Adam counts its steps on the CPU
    with counted(trainer) as waits:
        trainer.run()
    assert len(waits) == 6
    # the first step looks once whether the targets are fitted, and where a balancer's checkpoint left off
    assert waits[0] <= 2
    assert waits[1:] == [0] * 5


def test_figures_are_read_every_so_many_steps_and_at_the_end_of_an_epoch(data: Path) -> None:
    trainer = make_trainer(data, make_plan((1, 1, 0)), log_interval=2)
    read: list[list[int]] = []
    trainer.add_event_handler(FigureEvents.READ, lambda e: read.append([s.iteration for s in e.figures]))
    trainer.run()
    assert read == [[1, 2], [3], [4], [5, 6]]


@pytest.mark.parametrize("interval", [1, 50])
def test_what_is_read_is_what_every_step_cost(data: Path, interval: int) -> None:
    log = PhaseLog()
    trainer = make_trainer(data, make_plan((1, 1, 0)), [log], log_interval=interval)
    own: list[dict[str, float]] = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda e: own.append({name: float(value) for name, value in e.state.output["terms"].items()}),
    )
    trainer.run()
    for epoch, entry in enumerate(log.epochs):
        steps = own[3 * epoch : 3 * epoch + 3]
        expected = {name: sum(step[name] for step in steps) / 3 for name in steps[0]}
        assert entry["terms"] == pytest.approx(expected)


def spoil(trainer: DistillationTrainer, iteration: int, what: Any) -> None:
    """Do something right before a step."""

    def act(engine: DistillationTrainer) -> None:
        if engine.state.iteration == iteration:
            what(engine)

    trainer.add_event_handler(Events.ITERATION_STARTED, act)


@pytest.mark.parametrize("iteration", [4, 5, 6])
def test_a_loss_that_is_not_finite_stops_the_run_before_anything_is_saved(
    data: Path, tmp_path: Path, iteration: int
) -> None:
    trainer = make_trainer(data, handlers=[TrainingCheckpoint(tmp_path)])
    spoil(trainer, iteration, lambda e: e.distiller.student.head.weight.data.fill_(torch.nan))
    with pytest.raises(FloatingPointError, match="loss term 'segmentation' is nan"):
        trainer.run()
    state = torch.load(tmp_path / "last.pt", weights_only=False)
    assert state["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in state["distiller"].values())


def test_a_checkpoint_that_is_asked_for_in_an_epoch_looks_at_the_losses_first(data: Path) -> None:
    trainer = make_trainer(data)
    spoil(trainer, 2, lambda e: e.distiller.student.head.weight.data.fill_(torch.nan))
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda e: e.checkpoint())
    with pytest.raises(FloatingPointError, match="loss term 'segmentation' is nan"):
        trainer.run()
    assert trainer.state.iteration == 2


def test_a_teacher_that_breaks_on_the_way_is_named_before_the_loss_that_it_spoils(data: Path) -> None:
    teacher = make_teacher()
    trainer = make_trainer(data, teacher=teacher)
    spoil(trainer, 2, lambda _: teacher.network[0].weight.data.fill_(torch.nan))
    with pytest.raises(
        RuntimeError, match=r"teacher 'tiny' \(NetworkTeacher.*\) failed: RuntimeError: .* 'fine' holds NaN"
    ):
        trainer.run()
    assert trainer.state.epoch == 1
