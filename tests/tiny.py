"""A whole distillation in miniature: synthetic polyps, a small real teacher, a small student, three phases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from monai.data import DataLoader
from monai.losses import DiceCELoss
from torch import nn

from monai_difom.apps import FeatureBuilder
from monai_difom.data import (
    EpochSampler,
    FeatureStore,
    ViewDataset,
    loading_chain,
    make_polyps,
    plain_augmentation,
    train_validation,
    training_augmentation,
)
from monai_difom.engines import DistillationTrainer, Distiller, Objective, OneCycle, Phase, Plan
from monai_difom.networks.nets import DifomUNet
from monai_difom.networks.teachers import NetworkTeacher
from monai_difom.targets import DistillationTerm, TargetPipeline

SIZE = 32


def make_data(folder: Path, train: int = 12, test: int = 4) -> Path:
    """Synthetic polyps in PraNet's layout."""
    make_polyps(folder, train=train, test=test, size=48, seed=3)
    return folder


def make_teacher(seed: int = 5) -> NetworkTeacher:
    """A random network with two maps, strides 2 and 4."""
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.Tanh(), nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.Tanh()
    )
    return NetworkTeacher(network, {"fine": "1", "coarse": "3"}, mean=[0.5] * 3, std=[0.5] * 3)


def make_terms() -> list[DistillationTerm]:
    """Low and high band of the fused map at two taps."""
    return [
        DistillationTerm("low", tap="bottleneck", band="low", cutoff=0.25),
        DistillationTerm("high", tap="stride2", band="high", cutoff=0.25),
    ]


def make_plan(epochs: tuple[int, ...] = (1, 1, 1)) -> Plan:
    """Three phases: distil, distil with a ramp and a frozen encoder, masks alone."""
    return Plan(
        [
            Phase("align", 1, {"segmentation": 1.0, "low": 1.0, "high": 1.0}),
            Phase("distil", 1, {"segmentation": 1.0, "low": [1.0, 0.0], "high": 0.5}, freeze=["encoder"]),
            Phase("refine", 1, {"segmentation": 1.0}, lr=0.5),
        ],
        epochs,
    )


def make_trainer(
    data: Path, plan: Plan | None = None, handlers: Any = (), **changes: Any
) -> DistillationTrainer:
    """A trainer over everything above; the seed alone decides the first weights."""
    train, _ = train_validation(data, 0.25)
    dataset = ViewDataset(
        train,
        loading_chain(SIZE),
        changes.pop("augment", None) or training_augmentation(),
        progress=False,
        features=changes.pop("features", None),
    )
    loader = DataLoader(dataset, batch_size=3, sampler=EpochSampler(len(dataset)), num_workers=0)
    teacher = changes.pop("teacher", None) or make_teacher()
    torch.manual_seed(0)
    student = changes.pop("student", None) or DifomUNet(2, 3, 1, (4, 6, 8))
    fuse = changes.pop("fuse", "pca")
    targets = TargetPipeline(
        {"tiny": teacher}, changes.pop("terms", make_terms()), fuse=fuse, fuse_channels=6, fit_images=6
    )
    distiller = Distiller(student, targets)
    optimizer = torch.optim.AdamW(
        [*distiller.parameters(), *targets.parameters()], lr=changes.pop("learning_rate", 2e-3)
    )
    return DistillationTrainer(
        device="cpu",
        plan=plan or make_plan(),
        train_data_loader=loader,
        distiller=distiller,
        targets=targets,
        objective=Objective(DiceCELoss(sigmoid=True)),
        optimizer=optimizer,
        schedule=OneCycle(),
        train_handlers=list(handlers),
        **changes,
    )


def validation_loader(data: Path, features: FeatureStore | None = None) -> DataLoader:
    """Validation batches with image, teacher_image and label, and stored targets where there is a store."""
    _, validation = train_validation(data, 0.25)
    dataset = ViewDataset(
        validation, loading_chain(SIZE), plain_augmentation(), progress=False, features=features
    )
    return DataLoader(dataset, batch_size=2, num_workers=0)


def make_builder(
    data: Path,
    folder: Path,
    policy: str = "views",
    dtype: str = "float16",
    raw: bool = False,
    rows: int = 8,
    **changes: Any,
) -> FeatureBuilder:
    """A builder of the store that `make_trainer` reads; ``changes`` are those of `make_trainer`."""
    store = FeatureStore(folder, policy)
    trainer = make_trainer(data, features=store, **changes)
    return FeatureBuilder(
        store,
        trainer.targets,
        trainer.distiller,
        trainer.data_loader,
        validation_loader(data, store).dataset,
        dtype=dtype,
        raw=raw,
        batch_size=5,
        shard_rows=rows,
        progress=False,
    )
