"""Diagnostics of the teachers on real miniature runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Events

from monai_difom.apps import summarize
from monai_difom.engines import DistillationTrainer, Phase, Plan
from monai_difom.handlers import PhaseLog, TeacherDiagnostics, TrainingCheckpoint
from monai_difom.losses import RunningMeanBalancer
from monai_difom.targets import DistillationTerm

from ..tiny import make_data, make_plan, make_terms, make_trainer, validation_loader


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("polyps"))


def heads() -> list[DistillationTerm]:
    """Two maps of a teacher at one tap, one at another."""
    return [
        DistillationTerm("a", tap="bottleneck", source="tiny/coarse"),
        DistillationTerm("b", tap="bottleneck", source="tiny/fine"),
        DistillationTerm("c", tap="stride2", source="tiny/fine"),
    ]


PLAN = (
    Phase("agglomerate", 2, {"a": 1.0, "b": 1.0, "c": 0.5}),
    Phase("segment", 1, {"segmentation": 1.0, "a": 0.1}),
)


def run(data: Path, *handlers: object, **changes: object) -> DistillationTrainer:
    trainer = make_trainer(data, Plan(PLAN), handlers, terms=heads(), **changes)
    trainer.run()
    return trainer


def test_every_figure_is_kept_by_epoch_and_phase_in_a_form_that_can_be_plotted(
    data: Path, tmp_path: Path
) -> None:
    diagnostics = TeacherDiagnostics(validation_loader(data), interval=1, log_dir=tmp_path / "board")
    balancer = RunningMeanBalancer(["a", "b", "c"])
    trainer = run(data, PhaseLog(), diagnostics, balancer=balancer)
    summarize(trainer, {}, tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())["balancer"]
    assert summary["name"] == "RunningMeanBalancer"
    assert summary["sources"]["a"] == "tiny/coarse"
    assert set(summary["start"]) == {"a", "b", "c"}
    first, second = summary["phases"]
    assert (first["name"], second["name"]) == ("agglomerate", "segment")
    assert sum(first["balance"].values()) == pytest.approx(3)
    assert sum(first["share"].values()) == pytest.approx(1)
    assert list(second["balance"]) == ["a"]
    assert second["share"] == {"a": 1.0}  # of the distillation: the mask loss is no part of it
    assert list(first["gradient_cosine"]) == ["a|b"]  # c reads another tap
    assert second["gradient_cosine"] == {}
    assert all(-1 <= value <= 1 for phase in summary["phases"] for value in phase["cka"].values())
    history = json.loads((tmp_path / "history.json").read_text())
    assert [set(entry["balance"]) for entry in history] == [{"a", "b", "c"}, {"a", "b", "c"}, {"a"}]
    assert [bool(entry["cka"]) for entry in history] == [False, True, True]

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert {"balance/a", "share/b", "gradient_cosine/a|b", "cka/c"} <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("cka/a")] == [0, 2, 3]


def test_watching_changes_nothing(data: Path) -> None:
    plain, watched = run(data), run(data, TeacherDiagnostics(validation_loader(data), interval=1))
    for key, value in plain.distiller.state_dict().items():
        assert torch.equal(value, watched.distiller.state_dict()[key]), key


def test_one_target_twice_pulls_one_way_and_opposite_targets_pull_apart(data: Path) -> None:
    terms = [
        DistillationTerm(name, tap="bottleneck", source="tiny/coarse") for name in ("a", "same", "against")
    ]
    diagnostics = TeacherDiagnostics(interval=0)
    plan = Plan([Phase("p", 1, {"a": 1.0, "same": 1.0, "against": 1.0})])
    trainer = make_trainer(data, plan, [diagnostics], terms=terms)
    trainer.run()
    a, same, against = trainer.distiller.heads
    same.load_state_dict(a.state_dict())
    against.load_state_dict(a.state_dict())
    loss = trainer.targets.terms["a"].loss
    trainer.targets.terms["against"].loss = lambda student, target: -loss(student, target)
    found = diagnostics.gradient_cosines(next(iter(trainer.data_loader)))
    assert found == pytest.approx({"a|same": 1.0, "a|against": -1.0, "same|against": -1.0})


def test_cka_rises_as_the_student_learns_its_teacher(data: Path) -> None:
    diagnostics = TeacherDiagnostics(validation_loader(data), interval=0)
    make_trainer(data, make_plan((25, 0, 0)), [diagnostics], terms=make_terms(), learning_rate=1e-2).run()
    start, end = diagnostics.epochs[0]["cka"]["low"], diagnostics.epochs[-1]["cka"]["low"]
    assert end > start + 0.05


def test_a_resumed_run_has_the_same_figures(data: Path, tmp_path: Path) -> None:
    def watched() -> TeacherDiagnostics:
        return TeacherDiagnostics(validation_loader(data), interval=2)

    whole, part, again = watched(), watched(), watched()
    run(data, whole)
    trainer = make_trainer(data, Plan(PLAN), [part, TrainingCheckpoint(tmp_path)], terms=heads())
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), trainer.terminate)
    trainer.run()
    run(data, again, resume=tmp_path)
    assert again.epochs == whole.epochs


def test_a_run_without_distillation_has_nothing_to_diagnose(data: Path) -> None:
    diagnostics = TeacherDiagnostics(validation_loader(data))
    make_trainer(data, Plan([Phase("segment", 1)]), [diagnostics]).run()
    assert diagnostics.epochs == []
    assert diagnostics.summary()["phases"] == []
