"""Weight averaging: the formula, what is shown when, and exact resumption."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from torch import nn

from monai_difom.engines import DistillationTrainer
from monai_difom.engines.average import WeightAverage
from monai_difom.handlers import TrainingCheckpoint
from monai_difom.utils import load_state

from ..tiny import make_data, make_plan, make_trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("polyps"))


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert list(first) == list(second)
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


def test_the_average_is_that_of_the_formula_for_weights_and_batch_norm_statistics() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    average = WeightAverage(module, 0.9)
    wanted = state(module)
    for step in range(30):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        module(torch.randn(2, 1, 5, 5))
        average.update()
        keep = min(0.9, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            wanted[name] = (
                keep * wanted[name] + (1 - keep) * value if value.is_floating_point() else value.clone()
            )
    own = state(module)
    average.show()
    torch.testing.assert_close(state(module), wanted)
    with average.own_weights():
        assert_equal(state(module), own)
    torch.testing.assert_close(state(module), wanted)
    average.show(False)
    assert_equal(state(module), own)


@pytest.mark.parametrize("decay", [0, 1, 1.5, -0.1])
def test_a_factor_outside_its_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=r"ema is .*between 0 and 1"):
        WeightAverage(nn.Linear(1, 1), decay)


def test_the_averaged_student_is_what_is_validated_and_kept_and_training_is_as_without_it(
    data: Path, tmp_path: Path
) -> None:
    plain = make_trainer(data)
    plain.run()
    seen: list[dict[str, torch.Tensor]] = []
    trainer = make_trainer(data, ema=0.9, handlers=[TrainingCheckpoint(tmp_path)])
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append(state(trainer.network)))
    trainer.run()
    last = load_state(tmp_path / "last.pt")
    assert_equal(state(plain.distiller), last["distiller"])
    student = {
        k.removeprefix("student."): v for k, v in last["average"]["mean"].items() if k.startswith("student.")
    }
    kept = load_state(tmp_path / "last_model.pt")
    assert set(kept) == set(student)
    assert_equal({name: student[name] for name in kept}, kept)
    assert_equal(load_state(tmp_path / "model.pt"), kept)  # without a validator the last one
    assert_equal({name: seen[-1][name] for name in kept}, kept)
    assert_equal({name: trainer.network.state_dict()[name] for name in kept}, kept)
    assert not torch.equal(
        kept["encoder.0.conv1.weight"], plain.network.state_dict()["encoder.0.conv1.weight"]
    )


@pytest.mark.parametrize("stop", [1, 2])
def test_a_run_with_averages_that_is_killed_at_any_step_and_resumed_ends_alike(
    data: Path, tmp_path: Path, stop: int
) -> None:
    whole = make_trainer(data, ema=0.9)
    whole.run()
    part = make_trainer(data, ema=0.9, handlers=[TrainingCheckpoint(tmp_path)])

    def interrupt(engine: DistillationTrainer) -> None:
        if engine.state.iteration == stop * engine.state.epoch_length + 2:
            raise KeyboardInterrupt

    part.add_event_handler(Events.ITERATION_COMPLETED, interrupt)
    with pytest.raises(KeyboardInterrupt):
        part.run()
    again = make_trainer(data, ema=0.9, resume=tmp_path, handlers=[TrainingCheckpoint(tmp_path)])
    again.run()
    assert_equal(state(whole.distiller), state(again.distiller))
    finished = make_trainer(data, ema=0.9, resume=tmp_path)
    finished.run()
    assert_equal(state(whole.distiller), state(finished.distiller))
    with whole.average.own_weights(), again.average.own_weights():  # type: ignore[union-attr]
        assert_equal(state(whole.distiller), state(again.distiller))


def test_a_checkpoint_of_another_factor_is_refused(data: Path, tmp_path: Path) -> None:
    plan = make_plan((1, 0, 0))
    make_trainer(data, plan, handlers=[TrainingCheckpoint(tmp_path)]).run()
    with pytest.raises(ValueError, match=r"its ema is None, here it is 0\.9"):
        make_trainer(data, plan, ema=0.9, resume=tmp_path).run()
