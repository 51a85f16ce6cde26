"""Training on labelled and unlabelled images at once: what is learned from which, and exact resumption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader
from PIL import Image

from monai_difom.data import (
    MixedSampler,
    ViewDataset,
    loading_chain,
    open_soft_masks,
    train_validation,
    training_augmentation,
    unlabelled_items,
)
from monai_difom.engines import DistillationTrainer, Phase, Plan
from monai_difom.handlers import CollapseMonitor, TrainingCheckpoint
from monai_difom.losses import MISSING, SemimetricDiceCELoss
from monai_difom.transforms import MixImages

from ..tiny import SIZE, make_data, make_plan, make_trainer, validation_loader


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("polyps"))


@pytest.fixture(scope="module")
def maps(data: Path) -> Path:
    """Soft masks of all training images: blurred versions of the drawn ones."""
    folder = data.parent / f"{data.name}_maps"
    folder.mkdir()
    for item in train_validation(data, 0.25)[0]:
        drawn = np.asarray(Image.open(item["label"]).convert("L")) > 0
        Image.fromarray(np.where(drawn, 230, 30).astype(np.uint8)).save(
            folder / f"{Path(item['image']).stem}.png"
        )
    return folder


def loader(data: Path, maps: Path | None, workers: int = 0, steps: int | None = 3) -> DataLoader:
    """Three labelled images and the rest without their masks, half and half."""
    train, _ = train_validation(data, 0.25, limit=3)
    rest = unlabelled_items("rest", data, 0.25, limit=3)
    dataset = ViewDataset(
        [*train, *rest],
        loading_chain(SIZE),
        training_augmentation(rotate=180, scale=(0.7, 1.4), elastic=0.02, channels=1),
        progress=False,
        soft_masks=open_soft_masks(maps) if maps else None,
    )
    sampler = MixedSampler(len(train), len(rest), 4, 0.5, steps)
    return DataLoader(dataset, batch_size=4, sampler=sampler, num_workers=workers, drop_last=True)


def trainer(data: Path, maps: Path | None, plan: Plan | None = None, **changes: Any) -> DistillationTrainer:
    return make_trainer(
        data,
        plan or Plan([Phase("masks", 3)]),
        loader=loader(data, maps, changes.pop("workers", 0)),
        loss=SemimetricDiceCELoss(),
        **changes,
    )


def state(run: DistillationTrainer) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in run.distiller.state_dict().items()}


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


@pytest.mark.parametrize("stop", [4, 7])
def test_killed_at_any_step_and_resumed_it_ends_with_the_same_weights_and_averages(
    data: Path, maps: Path, tmp_path: Path, stop: int
) -> None:
    options = {"ema": 0.9, "mixing": MixImages("cutmix")}
    whole = trainer(data, maps, **options)
    whole.run()
    assert whole.state.iteration == 9  # epochs times steps, whatever the number of images
    part = trainer(data, maps, **options, handlers=[TrainingCheckpoint(tmp_path)])

    def kill(engine: DistillationTrainer) -> None:
        if engine.state.iteration == stop:
            raise KeyboardInterrupt

    part.add_event_handler(Events.ITERATION_COMPLETED, kill)
    with pytest.raises(KeyboardInterrupt):
        part.run()
    again = trainer(data, maps, **options, resume=tmp_path, handlers=[TrainingCheckpoint(tmp_path)])
    again.run()
    assert_equal(state(whole), state(again))
    assert whole.average is not None
    assert again.average is not None
    with whole.average.own_weights(), again.average.own_weights():
        assert_equal(state(whole), state(again))


def test_loader_processes_change_nothing(data: Path, maps: Path) -> None:
    runs = [trainer(data, maps, Plan([Phase("masks", 1)]), workers=workers) for workers in (0, 2)]
    for run in runs:
        run.run()
    assert_equal(state(runs[0]), state(runs[1]))


def test_the_monitor_says_how_much_of_the_soft_masks_the_student_explains(data: Path, maps: Path) -> None:
    plan = Plan([Phase("first", 1), Phase("second", 9)])
    monitor = CollapseMonitor(validation_loader(data))
    run = trainer(data, maps, plan, handlers=[monitor], learning_rate=5e-3)
    early: list[float] = []
    run.add_event_handler(
        Events.EPOCH_COMPLETED(once=1), lambda: early.append(monitor.results["soft_masks"]["r2"])
    )
    run.run()
    found = monitor.results["soft_masks"]
    assert (found["phase"], found["epoch"], found["collapsed"]) == ("second", 10, False)
    assert early[0] < found["r2"] < 1
    assert found["target_variance"] > 0.01


def test_images_with_neither_mask_teach_the_feature_terms_and_not_the_mask_loss(data: Path) -> None:
    run = trainer(data, None, make_plan((1, 0, 0)))
    scored: list[torch.Tensor] = []
    run.objective.segmentation.register_forward_hook(lambda _, given, __: scored.append(given[1]))  # type: ignore[union-attr]
    run.run()
    batch = next(iter(run.data_loader))
    assert [bool((label == MISSING).all()) for label in batch["label"]] == [False, False, True, True]
    # the first is that of the check before the training
    assert [len(label) for label in scored] == [1, 2, 2, 2]
    assert max(float(label.max()) for label in scored) <= 1
    assert set(run.state.output["terms"]) == {"segmentation", "low", "high"}  # type: ignore[index]


def test_a_batch_of_unlabelled_images_alone_changes_no_weight_by_the_mask_loss(data: Path) -> None:
    run = trainer(data, None)
    logits = torch.zeros(2, 1, 4, 4, requires_grad=True)
    scored = run.objective(
        logits, torch.full((2, 1, 4, 4), float(MISSING)), {}, {}, {}, {"segmentation": 1.0}
    )
    scored.total.backward()
    assert float(scored.total) == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_masks_of_unlabelled_images_are_never_opened(data: Path, maps: Path) -> None:
    rest = {Path(item["image"]).stem for item in unlabelled_items("rest", data, 0.25, limit=3)}
    assert len(rest) > 3
    kept = {}
    for stem in rest:
        file = data / "TrainDataset" / "mask" / f"{stem}.png"
        kept[file] = file.read_bytes()
        file.write_bytes(b"no picture at all")
    try:
        run = trainer(data, maps, Plan([Phase("masks", 1)]))
        run.run()
    finally:
        for file, content in kept.items():
            file.write_bytes(content)
    dataset: Any = run.data_loader.dataset  # type: ignore[union-attr]
    assert (dataset.labelled, len(dataset) - dataset.labelled) == (3, len(rest))
