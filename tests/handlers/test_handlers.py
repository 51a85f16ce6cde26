"""Handlers on real miniature runs."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.losses import DiceCELoss, DiceLoss
from PIL import Image
from rich.console import Console

from monai_difom.engines import DistillationTrainer, Phase, Plan
from monai_difom.handlers import (
    CollapseError,
    CollapseMonitor,
    PhaseLog,
    PicturePanel,
    TrainingCheckpoint,
    TrainingProgress,
)
from monai_difom.handlers.collapse_figures import Explained, figures
from monai_difom.handlers.pictures import exclusive, pca_colours, shown_masks
from monai_difom.losses import (
    AnnotatedLoss,
    DeepSupervision,
    FeatureDistillationLoss,
    LogitDistillationLoss,
    StructureLoss,
)
from monai_difom.networks.nets import DifomUNet
from monai_difom.targets import DistillationTerm
from monai_difom.targets.standardize import StreamingCovariance
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


def test_the_spread_of_a_target_far_from_zero_is_measured_and_one_position_is_dead() -> None:
    torch.manual_seed(0)
    maps = torch.randn(4, 6, 20, 20, dtype=torch.float64)
    statistics = StreamingCovariance(6)
    statistics.update(maps[:1] + 1e8)
    single = figures(statistics, 0.0)
    assert single["effective_rank"] == pytest.approx(6, abs=0.2)
    statistics.update(maps[1:] + 1e8)
    found = figures(statistics, float(maps.pow(2).sum()) / 2)
    assert found["target_variance"] == pytest.approx(1, abs=0.05)
    assert found["r2"] == pytest.approx(0.5, abs=0.01)
    dead = StreamingCovariance(6)
    dead.update(maps[:1, :, :1, :1])
    assert figures(dead, 1.0) == {"r2": 0.0, "target_variance": 0.0, "effective_rank": 0.0}


def test_what_is_the_same_in_every_image_is_not_counted_as_learned() -> None:
    torch.manual_seed(0)
    same, own = 3 + torch.randn(1, 4, 6, 6), torch.randn(20, 4, 6, 6)
    found = Explained()
    for part in own.split(7):
        found.update((same + 0 * part), same + part)  # a student that says the mean image, whatever it sees
    figures_of = found.figures()
    assert figures_of["r2"] == pytest.approx(0.5, abs=0.06)
    assert figures_of["same"] == pytest.approx(0.5, abs=0.06)
    assert figures_of["r2_image"] == pytest.approx(0, abs=0.06)
    maps = same + own
    about_mean_image = float((maps - maps.mean(0)).pow(2).sum())
    assert figures_of["r2_image"] == pytest.approx(1 - float(own.pow(2).sum()) / about_mean_image, abs=1e-5)


def test_one_image_or_several_sizes_have_no_mean_image() -> None:
    single, several = Explained(), Explained()
    single.update(torch.zeros(1, 2, 4, 4), torch.randn(1, 2, 4, 4))
    for size in (4, 5):
        several.update(torch.zeros(2, 2, size, size), torch.randn(2, 2, size, size))
    assert set(single.figures()) == set(several.figures()) == {"r2"}


@pytest.mark.parametrize(
    ("loss", "change"),
    [
        (FeatureDistillationLoss("cosine"), lambda target: 9 * target),
        (LogitDistillationLoss("softmax"), lambda target: target + 50),
        (LogitDistillationLoss("sigmoid", 2.0), lambda target: target + 0.01),
    ],
)
def test_what_a_loss_leaves_free_is_no_error_of_the_student(loss: Any, change: Any) -> None:
    target, found = torch.randn(6, 3, 5, 5), Explained()
    found.update(*loss.comparable(change(target), target))
    assert found.figures()["r2"] > 0.99


def test_a_loss_that_is_no_distance_raises_no_false_alarm(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def relation(student: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (student.mean() - target.mean() + 20).abs()  # content with a student far away

    monitor = CollapseMonitor(validation_loader(data))
    terms = [
        DistillationTerm("low", "bottleneck", loss=relation),
        DistillationTerm("high", "bottleneck"),
    ]
    with caplog.at_level(logging.WARNING):
        make_trainer(data, make_plan((1, 0, 0)), [monitor], terms=terms, learning_rate=1e-2).run()
    assert (monitor.results["low"]["distance"], monitor.results["high"]["distance"]) == (False, True)
    assert "Term 'low'" not in caplog.text


def test_checkpoints_are_left_and_the_best_student_is_kept(data: Path, tmp_path: Path) -> None:
    make_trainer(data, handlers=[TrainingCheckpoint(tmp_path)]).run()
    assert {path.name for path in tmp_path.iterdir()} == {
        "last.pt",
        "last_before.pt",
        "last_model.pt",
        "model.pt",
    }
    assert load_state(tmp_path / "last.pt")["epoch"] == 3


def test_a_terminal_shows_a_table_that_tells_phase_terms_validation_and_time(data: Path) -> None:
    output = io.StringIO()
    shown = TrainingProgress(console=Console(file=output, force_terminal=True, width=100))
    make_trainer(data, handlers=[PhaseLog(), shown]).run()
    assert 0 <= shown.wait <= 1
    text = output.getvalue()
    assert all(word in text for word in ("refine, epoch 3 of 3", "segmentation", "waits for data", "left"))


def test_a_file_gets_plain_lines_and_one_that_foretells_time_and_memory(
    data: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        make_trainer(data, handlers=[PhaseLog(), TrainingProgress()]).run()
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "\r" not in said.out + said.err
    foretold = [record.message for record in caplog.records if "Memory so far" in record.message]
    assert len(foretold) <= 1


def test_scalars_go_to_tensorboard(data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    make_trainer(data, handlers=[PhaseLog(tmp_path)]).run()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert {"terms/segmentation", "terms/low", "weights/high", "lr"} <= set(events.Tags()["scalars"])
    assert len(events.Scalars("terms/segmentation")) == 3


def test_tensorboard_gets_what_is_explained_the_test_scores_and_the_settings(
    data: Path, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = PhaseLog(tmp_path)
    make_trainer(data, handlers=[log, CollapseMonitor(validation_loader(data))]).run()
    log.conclude({"seed": 1, "recipe": "features", "deep": [1]}, {"x": {"dice": 0.5, "n": 3}})
    events = EventAccumulator(str(tmp_path)).Reload()
    assert {"r2/low", "r2_image/low", "effective_rank/high", "test/x/dice"} <= set(events.Tags()["scalars"])
    assert "_hparams_/experiment" in events.summary_metadata
    PhaseLog().conclude({"seed": 1}, {})  # without a folder nothing is written


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


def follow(
    data: Path, folder: Path, plan: Plan, scores: list[float], keep: str = "best"
) -> tuple[list[dict[str, float | int | None]], DistillationTrainer]:
    """Train with a validator that gives these scores; return what the checkpoint held best after every epoch."""
    validator = Engine(lambda _engine, _batch: None)
    validator.state.key_metric_name = "dice"
    saver = TrainingCheckpoint(folder, validator, keep=keep)
    kept = []
    trainer = make_trainer(data, plan)

    def validate(engine: Engine) -> None:
        validator.state.epoch = engine.state.epoch
        validator.state.metrics = {"dice": scores[engine.state.epoch - 1]}

    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    saver.attach(trainer)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: kept.append(saver.state_dict()))
    trainer.run()
    return kept, trainer


def test_the_last_student_is_kept_where_that_is_asked_for(data: Path, tmp_path: Path) -> None:
    kept, _ = follow(data, tmp_path, make_plan((1, 1, 1)), [0.9, 0.8, 0.3], keep="last")
    assert kept[-1] == {"best": 0.3, "best_epoch": 3}
    model, last = (load_state(tmp_path / name) for name in ("model.pt", "last_model.pt"))
    assert model.keys() == last.keys()
    assert all(torch.equal(model[name], last[name]) for name in model)
    with pytest.raises(ValueError, match="keep is 'newest'; allowed are best and last"):
        TrainingCheckpoint(tmp_path, keep="newest")


def test_after_features_alone_the_last_student_is_kept_until_masks_are_learned(
    data: Path, tmp_path: Path
) -> None:
    plan = Plan([Phase("agglomerate", 2, {"low": 1.0}), Phase("segment", 2, {"segmentation": 1.0})])
    kept, _ = follow(data, tmp_path, plan, [0.9, 0.8, 0.3, 0.2])
    assert kept == [
        {"best": None, "best_epoch": 1},
        {"best": None, "best_epoch": 2},
        {"best": 0.3, "best_epoch": 3},
        {"best": 0.3, "best_epoch": 3},
    ]


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_score_that_is_no_number_is_never_the_best_and_is_said(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, odd: float, place: int
) -> None:
    scores = [0.2, 0.4, 0.3, 0.1]
    scores[place] = odd
    kept, _ = follow(data, tmp_path, Plan([Phase("segment", 4)]), scores)
    best = max(score for score in scores if np.isfinite(score))
    assert kept[-1] == {"best": best, "best_epoch": scores.index(best) + 1}
    said = [r.getMessage() for r in caplog.records if "cannot be the best" in r.getMessage()]
    assert len(said) == 1
    assert f"dice of epoch {place + 1} is {odd}" in said[0]


def test_a_run_whose_scores_are_no_numbers_keeps_its_last_student(data: Path, tmp_path: Path) -> None:
    kept, trainer = follow(data, tmp_path, Plan([Phase("segment", 2)]), [float("nan")] * 2)
    assert kept[-1] == {"best": None, "best_epoch": 2}
    model = load_state(tmp_path / "model.pt")
    last = trainer.distiller.student.state_dict()
    assert all(torch.equal(model[key], last[key]) for key in model)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (DiceCELoss(softmax=True, to_onehot_y=True), True),
        (DeepSupervision(DiceLoss(softmax=True)), True),
        (torch.nn.CrossEntropyLoss(), True),
        (DiceCELoss(sigmoid=True), False),
        (AnnotatedLoss(DiceCELoss(sigmoid=True)), False),
        (StructureLoss(), False),
        (torch.nn.functional.binary_cross_entropy_with_logits, False),
    ],
)
def test_the_mask_loss_says_whether_classes_exclude_each_other(loss: object, expected: bool) -> None:
    assert exclusive(loss) is expected


def test_pictures_of_a_softmax_student_show_its_probabilities_without_the_background() -> None:
    logits = torch.randn(2, 3, 4, 4)
    classes = torch.randint(0, 3, (2, 1, 4, 4))
    one_hot = torch.cat([(classes == k).float() for k in range(3)], 1)
    for label in (classes, one_hot):
        shown, found = shown_masks(logits, label, softmax=True)
        torch.testing.assert_close(shown, one_hot[:, 1:])
        torch.testing.assert_close(found, logits.softmax(1)[:, 1:])
    torch.testing.assert_close(shown_masks(logits, one_hot, softmax=False)[1], logits.sigmoid())
