"""A training whose numbers have left the range of numbers stops before it saves them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from monai_difom.engines import Phase, Plan
from monai_difom.engines.finite import NotFiniteError, check_weights
from monai_difom.handlers import TrainingCheckpoint
from monai_difom.utils import load_state

from ..tiny import make_data, make_trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def masks(epochs: int = 2) -> Plan:
    return Plan([Phase("masks", epochs, {"segmentation": 1.0})])


def test_a_learning_rate_that_blows_up_saves_nothing_of_that_epoch(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="Lower the learning rate"):
        make_trainer(data, masks(), [TrainingCheckpoint(tmp_path)], learning_rate=1e30).run()
    assert not list(tmp_path.iterdir())


def test_a_last_step_that_blows_up_is_no_success_and_what_was_saved_before_stays(
    data: Path, tmp_path: Path
) -> None:
    trainer = make_trainer(data, masks(), [TrainingCheckpoint(tmp_path)])

    def destroy(engine: object) -> None:
        state = trainer.state
        if state.iteration == 2 * state.epoch_length:
            next(trainer.distiller.parameters()).data.view(-1)[0] = float("inf")

    from ignite.engine import Events

    trainer.add_event_handler(Events.ITERATION_COMPLETED, destroy)
    with pytest.raises(
        NotFiniteError, match=r"1 of .* weights are not finite, the first of student and heads"
    ):
        trainer.run()
    assert load_state(tmp_path / "last.pt")["epoch"] == 1
    for file in tmp_path.glob("*.pt"):
        tensors = [t for t in load_state(file).values() if isinstance(t, torch.Tensor)]
        assert all(torch.isfinite(tensor).all() for tensor in tensors)


def test_a_gradient_that_is_no_number_stops_the_run_before_anything_is_saved(
    data: Path, tmp_path: Path
) -> None:
    trainer = make_trainer(data, masks(), [TrainingCheckpoint(tmp_path)])
    next(trainer.distiller.parameters()).register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(FloatingPointError):
        trainer.run()
    assert not list(tmp_path.iterdir())


def test_large_and_empty_weights_are_weights() -> None:
    module = torch.nn.BatchNorm2d(3)
    module.weight.data.fill_(1e38)
    module.empty = torch.nn.Parameter(torch.zeros(0))
    check_weights({"a": module}, "here")
    module.running_var[0] = float("nan")
    with pytest.raises(NotFiniteError, match=r"1 of 5 weights are not finite, the first of a\.running_var"):
        check_weights({"a": module}, "here")
