"""Handlers on real miniature runs."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from PIL import Image

from monai_difom.engines import Phase, Plan
from monai_difom.handlers import (
    CollapseError,
    CollapseMonitor,
    PhaseLog,
    PicturePanel,
    TrainingCheckpoint,
    TrainingProgress,
)
from monai_difom.handlers.pictures import pca_colours
from monai_difom.losses import FeatureDistillationLoss
from monai_difom.networks.nets import DifomUNet
from monai_difom.targets import DistillationTerm
from monai_difom.utils import load_state

from ..tiny import make_data, make_plan, make_trainer, validation_loader


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("polyps"))


def published_terms() -> list[DistillationTerm]:
    loss = FeatureDistillationLoss("mse", detach_target=False)
    return [
        DistillationTerm("low", "L1", band="low", cutoff=0.25, shape="ideal", head="identity", loss=loss),
        DistillationTerm("high", "L2", band="high", cutoff=0.25, shape="ideal", head="identity", loss=loss),
    ]


def published(data: Path, monitor: CollapseMonitor) -> None:
    """The published recipe in miniature: a trainable fusion and side latents pulled together."""
    torch.manual_seed(1)
    student = DifomUNet(2, 3, 1, (4, 6, 8), latents="side", latent_channels=6)
    plan = Plan([Phase("distil", 40, {"segmentation": 0.6, "low": 0.1, "high": 0.1})])
    make_trainer(
        data, plan, [monitor], student=student, terms=published_terms(), fuse="learned", learning_rate=2e-2
    ).run()


def test_the_published_recipe_collapses_and_one_plain_sentence_says_so(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = CollapseMonitor(validation_loader(data))
    with caplog.at_level(logging.WARNING):
        published(data, monitor)
    assert monitor.results["low"]["collapsed"]
    assert monitor.results["high"]["collapsed"]
    sentences = [r.getMessage() for r in caplog.records if "has collapsed" in r.getMessage()]
    assert sentences
    assert "the teachers teach nothing" in sentences[0]


def test_strict_mode_stops_a_collapsed_run(data: Path) -> None:
    with pytest.raises(CollapseError, match="has collapsed"):
        published(data, CollapseMonitor(validation_loader(data), strict=True))


def test_fixed_targets_do_not_collapse_and_the_student_learns_them(data: Path) -> None:
    monitor = CollapseMonitor(validation_loader(data))
    make_trainer(data, make_plan((25, 0, 0)), [monitor], learning_rate=1e-2).run()
    for name, result in monitor.results.items():
        assert not result["collapsed"], name
        assert result["target_variance"] == pytest.approx(monitor.first_variance[name], rel=1e-5)
    assert monitor.results["low"]["r2"] > 0.2


def test_checkpoints_are_left_and_the_best_student_is_kept(data: Path, tmp_path: Path) -> None:
    make_trainer(data, handlers=[TrainingCheckpoint(tmp_path)]).run()
    assert {path.name for path in tmp_path.iterdir()} == {"last.pt", "model.pt"}
    assert load_state(tmp_path / "last.pt")["epoch"] == 3


def test_progress_measures_the_share_of_time_waited_for_data(
    data: Path, capsys: pytest.CaptureFixture
) -> None:
    bar = TrainingProgress()
    make_trainer(data, handlers=[bar]).run()
    assert 0 <= bar.wait <= 1
    assert "refine 3/3" in capsys.readouterr().err


def test_scalars_go_to_tensorboard(data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    make_trainer(data, handlers=[PhaseLog(tmp_path)]).run()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert {"terms/segmentation", "terms/low", "weights/high", "lr"} <= set(events.Tags()["scalars"])
    assert len(events.Scalars("terms/segmentation")) == 3


def test_a_picture_is_drawn_at_the_end_of_every_phase(data: Path, tmp_path: Path) -> None:
    make_trainer(data, handlers=[PicturePanel(validation_loader(data), tmp_path, images=2)]).run()
    sheets = sorted((tmp_path / "pictures").iterdir())
    assert [sheet.name for sheet in sheets] == ["001_align.png", "002_distil.png", "003_refine.png"]
    with Image.open(sheets[0]) as first, Image.open(sheets[2]) as last:
        assert first.width > last.width  # maps of two terms, then none
        assert np.asarray(first).std() > 10


def test_equal_maps_have_equal_colours_and_other_maps_others() -> None:
    maps = torch.randn(2, 5, 6, 6)
    first, second = pca_colours(maps, maps.clone())
    torch.testing.assert_close(first, second)
    assert first.min() >= 0
    assert first.max() <= 1
    assert (pca_colours(maps, torch.randn(2, 5, 6, 6))[1] - first).abs().mean() > 0.05


def test_after_features_alone_the_last_student_is_kept_until_masks_are_learned(
    data: Path, tmp_path: Path
) -> None:
    plan = Plan([Phase("agglomerate", 2, {"low": 1.0}), Phase("segment", 2, {"segmentation": 1.0})])
    scores = iter([0.9, 0.8, 0.3, 0.2])
    validator = Engine(lambda _engine, _batch: None)
    validator.state.key_metric_name = "dice"
    saver = TrainingCheckpoint(tmp_path, validator)
    kept = []
    trainer = make_trainer(data, plan)

    def validate(engine: Engine) -> None:
        validator.state.epoch, validator.state.metrics = engine.state.epoch, {"dice": next(scores)}

    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    saver.attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: kept.append(saver.state_dict()))
    trainer.run()
    assert kept == [
        {"best": None, "best_epoch": 1},
        {"best": None, "best_epoch": 2},
        {"best": 0.3, "best_epoch": 3},
        {"best": 0.3, "best_epoch": 3},
    ]
