"""Twelve structures, some missing, from files to figures: the parts fit together."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from monai.engines import SupervisedEvaluator
from monai.handlers import ValidationHandler, from_engine
from monai.losses import DiceCELoss
from monai.transforms import Activationsd, AsDiscreted, Compose
from torch.utils.data import DataLoader

from monai_difom.data import (
    STRUCTURES,
    EpochSampler,
    ViewDataset,
    loading_chain,
    make_fluoroscopy,
    plain_augmentation,
    train_validation,
    training_augmentation,
)
from monai_difom.engines import DistillationTrainer, Distiller, Objective, Phase, Plan
from monai_difom.handlers import PhaseLog, PicturePanel, TeacherDiagnostics, TrainingCheckpoint
from monai_difom.losses import AnnotatedLoss, AttentionBalancer
from monai_difom.metrics import StructureDice
from monai_difom.networks.nets import DifomUNet
from monai_difom.targets import DistillationTerm, TargetPipeline

from ..tiny import make_teacher


def test_agglomerate_then_segment_twelve_structures_of_which_some_are_missing(tmp_path: Path) -> None:
    make_fluoroscopy(tmp_path / "data", patients=3, test_patients=0, frames=3, size=48, missing=0.25)
    items, held_out = train_validation(tmp_path / "data", 0.3, group="frames.csv:patient")
    chain = loading_chain(32, structures=STRUCTURES)
    data = ViewDataset(items, chain, training_augmentation(), progress=False)
    validation = DataLoader(
        ViewDataset(held_out, chain, plain_augmentation(), progress=False), batch_size=2, num_workers=0
    )
    names = ["first", "second"]
    maps = {"first": "coarse", "second": "fine"}
    teachers = {"first": make_teacher(1), "second": make_teacher(2)}
    terms = [DistillationTerm(n, tap="bottleneck", source=f"{n}/{maps[n]}") for n in names]
    targets = TargetPipeline(teachers, terms)
    torch.manual_seed(0)
    student = DifomUNet(2, 3, len(STRUCTURES), (4, 6, 8))
    distiller = Distiller(student, targets)
    objective = Objective(AnnotatedLoss(DiceCELoss(sigmoid=True)), AttentionBalancer(names, warmup=1))
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=validation,
        network=student,
        postprocessing=Compose([Activationsd("pred", sigmoid=True), AsDiscreted("pred", threshold=0.5)]),
        key_val_metric={"val_dice": StructureDice(STRUCTURES, from_engine(["pred", "label"]))},
    )
    log = PhaseLog(validator=evaluator)
    diagnostics = TeacherDiagnostics(validation, interval=1)
    trainer = DistillationTrainer(
        "cpu",
        Plan(
            [
                Phase("agglomerate", 1, dict.fromkeys(names, 1.0)),
                Phase("segment", 1, {"segmentation": 1.0, **dict.fromkeys(names, 0.2)}),
                Phase("refine", 1, {"segmentation": 1.0}),
            ]
        ),
        DataLoader(data, batch_size=2, sampler=EpochSampler(len(data))),
        distiller,
        targets,
        objective,
        torch.optim.AdamW([*distiller.parameters(), *objective.parameters()], lr=5e-3),
        train_handlers=[
            ValidationHandler(interval=1, validator=evaluator),
            log,
            diagnostics,
            PicturePanel(validation, tmp_path, images=2),
            TrainingCheckpoint(tmp_path, evaluator),
        ],
    )
    trainer.run()
    assert [entry["phase"] for entry in log.epochs] == ["agglomerate", "segment", "refine"]
    scores = log.epochs[-1]["validation"]
    annotated = {name for item in held_out for name in item["label"]}
    assert {name.removeprefix("val_dice/") for name in scores if "/" in name} == annotated
    assert all(math.isfinite(value) for value in scores.values())
    assert set(diagnostics.summary()["phases"][0]["gradient_cosine"]) == {"first|second"}
    assert len(list((tmp_path / "pictures").iterdir())) == 3
    DifomUNet(2, 3, len(STRUCTURES), (4, 6, 8)).load_state_dict(torch.load(tmp_path / "model.pt"))
