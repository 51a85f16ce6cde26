"""The trainer: phases, freezing, accumulation, resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events

from monai_difom.engines import DistillationTrainer, Phase, Plan
from monai_difom.handlers import PhaseLog, TrainingCheckpoint
from monai_difom.losses import (
    AttentionBalancer,
    Balancer,
    FeatureDistillationLoss,
    MLPBalancer,
    RunningMeanBalancer,
    TeacherDropping,
)
from monai_difom.networks.nets import DifomUNet
from monai_difom.targets import DistillationTerm
from monai_difom.utils import load_state, save_state

from ..tiny import make_data, make_plan, make_teacher, make_terms, make_trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("polyps"))


def weights(trainer: DistillationTrainer) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in trainer.distiller.state_dict().items()}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert list(first) == list(second)
    for key in first:
        assert torch.equal(first[key], second[key]), key


def test_three_phases_run_and_every_live_term_is_logged_with_its_weight(data: Path) -> None:
    log = PhaseLog()
    trainer = make_trainer(data, handlers=[log])
    trainer.run()
    assert [phase["name"] for phase in log.summary()] == ["align", "distil", "refine"]
    assert set(log.summary()[0]["terms"]) == {"segmentation", "low", "high"}
    assert log.summary()[2]["weights"] == {"segmentation": 1.0}
    assert trainer.optimizer.param_groups[0]["lr"] < 2e-3


def test_a_frozen_module_keeps_every_number_and_its_batch_norm_does_not_drift(data: Path) -> None:
    trainer = make_trainer(data, make_plan((1, 1, 0)))
    before: dict[str, torch.Tensor] = {}
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda: before.update(weights(trainer)))
    trainer.run()
    after = weights(trainer)
    encoder = [key for key in after if key.startswith("student.encoder")]
    assert any("running_mean" in key for key in encoder)
    assert all(torch.equal(before[key], after[key]) for key in encoder)
    assert any(not torch.equal(before[key], after[key]) for key in after if key.startswith("student.decoder"))


def test_what_was_frozen_learns_again_in_the_next_phase(data: Path) -> None:
    trainer = make_trainer(data, make_plan((0, 1, 1)))
    before: dict[str, torch.Tensor] = {}
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda: before.update(weights(trainer)))
    trainer.run()
    key = "student.encoder.0.conv1.weight"
    assert not torch.equal(before[key], weights(trainer)[key])


@pytest.mark.parametrize("amp", [False, True])
def test_handlers_are_given_the_targets_that_the_step_was_trained_on(data: Path, amp: bool) -> None:
    trainer = make_trainer(data, make_plan((1, 0, 0)), amp=amp)
    steps = []

    def compare(_module: torch.nn.Module, arguments: tuple) -> None:
        batch: Any = trainer.state.batch
        first = trainer.targets_of(batch, ["low"], 1)
        torch.testing.assert_close(first["low"], arguments[3]["low"][:1], rtol=0, atol=0.02 if amp else 1e-5)
        steps.append((arguments[3], trainer.targets_of(batch, trainer.targets.terms)))

    trainer.objective.register_forward_pre_hook(compare)
    trainer.run()
    assert {name for used, _ in steps for name in used} == {"low", "high"}
    for used, found in steps:
        assert_equal(used, found)
    assert trainer.targets_of({"image": torch.zeros(1, 3, 64, 32)}, ["segmentation"]) == {}


def test_without_distillation_no_teacher_runs(data: Path) -> None:
    trainer = make_trainer(data, Plan([Phase("segment", 1)]))
    trainer.targets.teachers["tiny"].extract = None  # type: ignore[method-assign]
    trainer.run()
    assert not trainer.distils


def test_a_teacher_that_fails_stops_the_run_and_is_named(data: Path) -> None:
    teacher = make_teacher()
    teacher.network[0].weight.data.fill_(torch.nan)
    with pytest.raises(RuntimeError, match=r"NetworkTeacher.*NaN"):
        make_trainer(data, teacher=teacher).run()


def test_accumulated_batches_step_once(data: Path) -> None:
    trainer = make_trainer(data, Plan([Phase("segment", 1)]), accumulation_steps=3)
    steps = []
    trainer.optimizer.register_step_post_hook(lambda *_: steps.append(trainer.state.iteration))
    trainer.run()
    assert steps == [3]


def test_a_clipped_gradient_moves_the_weights_less(data: Path) -> None:
    start = weights(make_trainer(data))
    ends = []
    for norm in (None, 1e-9):
        trainer = make_trainer(data, Plan([Phase("segment", 1)]), max_grad_norm=norm)
        for group in trainer.optimizer.param_groups:
            group["eps"], group["weight_decay"] = 1e-3, 0.0
        trainer.run()
        ends.append(
            sum(
                float((weights(trainer)[k] - v).abs().sum()) for k, v in start.items() if k.endswith("weight")
            )
        )
    assert ends[1] < 0.5 * ends[0]


def test_mixed_precision_trains_on_the_cpu_with_finite_terms(data: Path) -> None:
    log = PhaseLog()
    make_trainer(data, handlers=[log], amp=True, channels_last=True).run()
    assert all(value == value for entry in log.epochs for value in entry["terms"].values())


def test_max_epochs_stretches_the_plan(data: Path) -> None:
    assert make_trainer(data, make_plan((1, 1, 1)), max_epochs=6).plan.epochs == 6


def test_two_runs_of_one_seed_end_with_the_same_weights(data: Path) -> None:
    runs = [make_trainer(data), make_trainer(data)]
    for trainer in runs:
        torch.manual_seed(id(trainer) % 1000)  # what ran before must not matter
        trainer.run()
    assert_equal(weights(runs[0]), weights(runs[1]))


@pytest.mark.parametrize("stop", [1, 2])
def test_a_run_that_is_resumed_ends_like_one_that_was_not_stopped(
    data: Path, tmp_path: Path, stop: int
) -> None:
    whole = make_trainer(data, handlers=[PhaseLog()])
    whole.run()

    part = make_trainer(data, handlers=[PhaseLog(), TrainingCheckpoint(tmp_path)])

    def interrupt(engine: DistillationTrainer) -> None:
        # two batches into the next epoch: what they did must leave no trace
        if engine.state.iteration == stop * engine.state.epoch_length + 2:
            raise KeyboardInterrupt

    part.add_event_handler(Events.ITERATION_COMPLETED, interrupt)
    with pytest.raises(KeyboardInterrupt):
        part.run()

    log = PhaseLog()
    again = make_trainer(data, handlers=[log, TrainingCheckpoint(tmp_path)], resume=tmp_path)
    again.run()
    assert_equal(weights(whole), weights(again))
    assert [entry["epoch"] for entry in log.epochs] == [1, 2, 3]


def test_a_finished_run_that_is_resumed_trains_no_more(data: Path, tmp_path: Path) -> None:
    first = make_trainer(data, handlers=[TrainingCheckpoint(tmp_path)])
    first.run()
    again = make_trainer(data, resume=tmp_path)
    again.run()
    assert_equal(weights(first), weights(again))


def test_a_checkpoint_holds_nothing_of_the_teacher_but_its_signature(data: Path, tmp_path: Path) -> None:
    trainer = make_trainer(data, handlers=[TrainingCheckpoint(tmp_path)])
    trainer.run()
    state = load_state(tmp_path / "last.pt")
    assert state["teachers"] == {"tiny": trainer.targets.teachers["tiny"].signature}
    teacher = trainer.targets.teachers["tiny"].network[0].weight
    tensors = [v for part in ("distiller", "targets") for v in state[part].values()]
    assert not any(t.shape == teacher.shape and torch.equal(t, teacher) for t in tensors)
    student = DifomUNet(2, 3, 1, (4, 6, 8))
    student.load_state_dict(load_state(tmp_path / "model.pt"))  # strict: the plain student and nothing else


def test_a_checkpoint_of_another_run_says_what_differs(data: Path, tmp_path: Path) -> None:
    make_trainer(data, make_plan((1, 0, 0)), handlers=[TrainingCheckpoint(tmp_path)]).run()
    same = make_plan((1, 0, 0))
    with pytest.raises(ValueError, match="another run: its seed is 0, here it is 7"):
        make_trainer(data, same, resume=tmp_path, seed=7).run()
    with pytest.raises(ValueError, match="its plan is"):
        make_trainer(data, make_plan((1, 1, 0)), resume=tmp_path).run()
    with pytest.raises(ValueError, match="its teachers is"):
        make_trainer(data, same, resume=tmp_path, teacher=make_teacher(seed=6)).run()
    with pytest.raises(
        ValueError, match=r"last.pt does not fit Distiller: \d+ missing keys \(first: student.latents"
    ):
        make_trainer(
            data, same, resume=tmp_path, student=DifomUNet(2, 3, 1, (4, 6, 8), latents="inline")
        ).run()


def test_what_is_no_checkpoint_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        make_trainer(data, resume=tmp_path / "nothing").run()
    save_state(tmp_path / "last.pt", {"weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"no training checkpoint. Resume from a run's last.pt"):
        make_trainer(data, resume=tmp_path).run()


def test_a_band_that_is_empty_on_the_grid_stops_the_run_before_the_first_step(data: Path) -> None:
    terms = make_terms()
    terms[0].cutoff, terms[0].transition = 0.01, 0.01
    with pytest.raises(
        ValueError, match="term 'low' at tap 'bottleneck': the low band is empty on a 8x8 grid"
    ):
        make_trainer(data, terms=terms).run()


BALANCERS = {
    "running mean": lambda: RunningMeanBalancer(["low", "high"]),
    "dropping": lambda: TeacherDropping(["low", "high"]),
    "attention": lambda: AttentionBalancer(["low", "high"], warmup=2),
}


@pytest.mark.parametrize("name", BALANCERS)
def test_a_resumed_balancer_goes_on_as_if_nothing_had_happened(data: Path, tmp_path: Path, name: str) -> None:
    def trainer(**changes: object) -> DistillationTrainer:
        torch.manual_seed(2)
        balancer: Balancer = BALANCERS[name]()
        return make_trainer(data, make_plan((2, 1, 0)), balancer=balancer, **changes)

    whole = trainer()
    whole.run()
    part = trainer(handlers=[TrainingCheckpoint(tmp_path)])
    part.add_event_handler(Events.EPOCH_COMPLETED(once=1), part.terminate)
    part.run()
    again = trainer(resume=tmp_path)
    again.run()
    assert_equal(weights(whole), weights(again))
    ends = [run.objective.state_dict() for run in (whole, again)]
    assert_equal(*ends)
    assert name != "attention" or bool(ends[0]["balancer.read"].any())  # it has learned


def test_a_balancer_that_would_not_learn_is_refused(data: Path) -> None:
    trainer = make_trainer(data, balancer=MLPBalancer(["low", "high"]))
    arguments = {"device": "cpu", "plan": trainer.plan, "train_data_loader": trainer.data_loader}
    lame = torch.optim.AdamW(trainer.distiller.parameters())
    with pytest.raises(ValueError, match=r"does not hold balancer.first.weight.*objective.parameters"):
        DistillationTrainer(
            **arguments,
            distiller=trainer.distiller,
            targets=trainer.targets,
            objective=trainer.objective,
            optimizer=lame,
        )


def test_a_balancer_of_other_terms_is_refused(data: Path) -> None:
    with pytest.raises(ValueError, match="Did you mean 'high'"):
        make_trainer(data, balancer=MLPBalancer(["low", "hihg"]))


@pytest.mark.parametrize("field", ["lr", "freeze"])
def test_a_checkpoint_of_before_a_phase_had_a_field_is_resumed_where_the_field_is_at_its_default(
    data: Path, tmp_path: Path, field: str
) -> None:
    plan, options = Plan([Phase("a", 1), Phase("b", 1)]), {"seed": 3}
    make_trainer(data, plan, [TrainingCheckpoint(tmp_path)], **options).run()
    state = load_state(tmp_path / "last.pt")
    for phase in state["plan"]:
        del phase[field]
    save_state(tmp_path / "last.pt", state)
    make_trainer(data, plan, resume=tmp_path, **options).run()
    used = Phase("b", 1, **{field: {"lr": 0.5, "freeze": ["encoder"]}[field]})
    with pytest.raises(ValueError, match="belongs to another run: its plan is"):
        make_trainer(data, Plan([Phase("a", 1), used]), resume=tmp_path, **options).run()


def test_a_run_without_a_gradient_scaler_is_resumed_by_one_that_has_one(data: Path, tmp_path: Path) -> None:
    part = make_trainer(data, handlers=[TrainingCheckpoint(tmp_path)])
    part.add_event_handler(Events.EPOCH_COMPLETED(once=1), part.terminate)
    part.run()
    again = make_trainer(data, resume=tmp_path, amp=True)
    again.scaler = torch.amp.GradScaler("cpu")
    again.run()
    assert again.state.epoch == 3
    assert again.scaler.state_dict()["scale"] == 2.0**16


def test_a_phase_without_masks_leaves_the_decoder_as_it_is_whatever_the_weight_decay(data: Path) -> None:
    trainer = make_trainer(data, Plan([Phase("features", 2, {"low": 1.0})]), learning_rate=0.1)
    before = {key: value.clone() for key, value in trainer.distiller.named_parameters()}
    trainer.run()
    after = dict(trainer.distiller.named_parameters())
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved
    assert not any(key.startswith(("student.decoder", "student.head")) for key in moved)


def test_all_that_learns_is_clipped_together(data: Path) -> None:
    names = ["low", "high"]
    torch.manual_seed(2)
    trainer = make_trainer(
        data,
        Plan([Phase("distil", 1, {"segmentation": 1.0, "low": 1.0, "high": 1.0})]),
        balancer=MLPBalancer(names, warmup=1),
        fuse="learned",
        terms=[
            DistillationTerm(n, tap="bottleneck", loss=FeatureDistillationLoss("mse", detach_target=False))
            for n in names
        ],
        max_grad_norm=1e-3,
    )
    parts = {"student": trainer.distiller, "fusion": trainer.targets, "balancer": trainer.objective}
    norms: list[float] = []
    reached: set[str] = set()

    def look(*_: object) -> None:
        gradients = {n: [p.grad for p in m.parameters() if p.grad is not None] for n, m in parts.items()}
        reached.update(n for n, found in gradients.items() if any(bool(g.any()) for g in found))
        every = [g.flatten() for found in gradients.values() for g in found]
        norms.append(float(torch.cat(every).norm()))

    trainer.optimizer.register_step_pre_hook(look)
    trainer.run()
    assert reached == set(parts)
    assert max(norms) <= 1e-3 * (1 + 1e-4)
