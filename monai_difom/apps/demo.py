"""The whole chain in minutes, on synthetic images: a teacher, a student alone, the same student distilled."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.engines import SupervisedEvaluator
from monai.handlers import MeanDice, ValidationHandler, from_engine
from monai.inferers import SimpleInferer
from monai.losses import DiceCELoss
from monai.transforms import Activationsd, AsDiscreted, Compose
from monai.utils import set_determinism
from PIL import Image, ImageDraw, ImageFont
from torch.utils.data import DataLoader

from .. import __version__
from ..data import (
    EpochSampler,
    ViewDataset,
    evaluation_chain,
    loading_chain,
    make_polyps,
    plain_augmentation,
    test_sets,
    train_validation,
    training_augmentation,
)
from ..engines import DistillationTrainer, Distiller, Objective, OneCycle, Phase, Plan
from ..handlers import CollapseMonitor, PhaseLog, PicturePanel, TrainingCheckpoint, TrainingProgress
from ..networks.nets import DifomUNet
from ..networks.teachers import NetworkTeacher
from ..targets import DistillationTerm, TargetPipeline
from ..transforms import IMAGENET_MEAN, IMAGENET_STD
from ..utils import load_state, write_json
from .evaluate import evaluate_set, predict_probability
from .summary import summarize

NAMES = ("undistilled", "distilled", "teacher")
# one term each: where the student is read, and the teacher's map that it must match there
TERMS = {"encoder": "bottleneck", "decoder": "decoder_stride2"}


@dataclass(frozen=True)
class Settings:
    """How large the demo is.

    Args:
        size: side of the images.
        teacher_images: labelled images that the teacher is trained on.
        student_images: labelled images that either student is trained on.
        validation_images: further images, for each of them, that choose the best epoch.
        test_images: images that all three are scored on.
        teacher_width: channels of the teacher's levels.
        student_width: channels of the student's levels.
        teacher_epochs: epochs of the teacher.
        student_epochs: epochs of the student's three phases, one number each; both students train for all of them.
        weight: weight of each distillation term, against 1 for the masks.
        batch_size: images a step.
        learning_rate: highest learning rate.
        rounds: passes over the test images in the timing.
    """

    size: int = 112
    teacher_images: int = 400
    student_images: int = 32
    validation_images: int = 24
    test_images: int = 100
    teacher_width: tuple[int, ...] = (16, 32, 64, 128, 128)
    student_width: tuple[int, ...] = (8, 16, 32, 64, 64)
    teacher_epochs: int = 16
    student_epochs: tuple[int, int, int] = (25, 50, 25)
    weight: float = 1.5
    batch_size: int = 8
    learning_rate: float = 0.003
    rounds: int = 1


QUICK = Settings(
    size=64,
    teacher_images=24,
    student_images=8,
    validation_images=4,
    test_images=6,
    teacher_width=(8, 16, 32, 32, 32),
    student_width=(4, 8, 16, 16, 16),
    teacher_epochs=2,
    student_epochs=(1, 1, 1),
)


class Demo:
    """One run of the demo: its folder, its seed and its size."""

    def __init__(self, output: Path, seed: int, settings: Settings) -> None:
        self.output, self.seed, self.settings = output, seed, settings
        self.test = self._images()

    def _images(self) -> list[dict[str, str]]:
        """Write both data sets, of different images, and return the test items."""
        s, data = self.settings, self.output / "data"
        make_polyps(data / "teacher", s.teacher_images + s.validation_images, 0, s.size, seed=2 * self.seed)
        make_polyps(
            data / "student", s.student_images + s.validation_images, s.test_images, s.size, seed=2 * self.seed + 1
        )
        return test_sets(data / "student")["synthetic"]

    def network(self, width: Sequence[int]) -> DifomUNet:
        """Return a network whose first weights depend on seed and width alone."""
        set_determinism(self.seed)
        return DifomUNet(features=width)

    def loaders(self, owner: str) -> tuple[DataLoader, DataLoader]:
        """Return training and validation batches of the ``teacher`` data or the ``student`` data."""
        s = self.settings
        count = {"teacher": s.teacher_images, "student": s.student_images}[owner]
        fraction = s.validation_images / (count + s.validation_images)
        train, validation = train_validation(self.output / "data" / owner, fraction, self.seed)
        chain = loading_chain(s.size)
        augmented = ViewDataset(train, chain, training_augmentation(), self.seed, progress=False)
        plain = ViewDataset(validation, chain, plain_augmentation(), progress=False)
        sampler = EpochSampler(len(augmented), self.seed)
        return (
            DataLoader(augmented, s.batch_size, sampler=sampler, drop_last=len(augmented) >= s.batch_size),
            DataLoader(plain, s.batch_size),
        )

    def train(self, name: str, network: DifomUNet, phases: Sequence[Phase], targets: TargetPipeline) -> DifomUNet:
        """Train a network through phases with the engine that the bundles use, unless an interrupted demo has already.

        Returns:
            The network with the weights of its best epoch on the validation images.
        """
        folder = self.output / name
        settings = {"seed": self.seed, "version": __version__, **asdict(self.settings)}
        if not _finished(folder, settings):
            loaders = self.loaders("teacher" if name == "teacher" else "student")
            trainer = make_trainer(network, phases, targets, loaders, self.settings, self.seed, folder)
            trainer.run()
            summarize(trainer, {}, folder)
            write_json(folder / "stage.json", settings)
        network.load_state_dict(load_state(folder / "models" / "model.pt"))
        return network.eval()

    def targets(self, teacher: DifomUNet) -> TargetPipeline:
        """Return the targets of the distillation: the trained teacher's maps, where `TERMS` says."""
        frozen = NetworkTeacher(
            teacher,
            {tap: teacher.taps[tap] for tap in TERMS.values()},
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            multiple_of=teacher.divisor,
            licence="none needed: trained here, on synthetic images",
        )
        terms = [DistillationTerm(name, tap, source=f"unet/{tap}") for name, tap in TERMS.items()]
        return TargetPipeline({"unet": frozen}, terms)

    def run(self) -> dict[str, DifomUNet]:
        """Train all three networks and return them by name."""
        s = self.settings
        masks_only = {"segmentation": 1.0}
        both = {**masks_only, **dict.fromkeys(TERMS, s.weight)}
        names = ("align", "distil", "refine")
        heading("2/5", f"Teacher: learns from {s.teacher_images} labelled images")
        none = TargetPipeline({}, [])
        phases = [Phase("masks", s.teacher_epochs, masks_only)]
        teacher = self.train("teacher", self.network(s.teacher_width), phases, none)
        heading("3/5", f"Student alone: learns from {s.student_images} labelled images")
        phases = [Phase("masks", sum(s.student_epochs), masks_only)]
        alone = self.train("undistilled", self.network(s.student_width), phases, none)
        heading("4/5", "The same student, same images, same epochs, distilled from the teacher")
        weights = (both, both, masks_only)
        phases = [Phase(n, e, w) for n, e, w in zip(names, s.student_epochs, weights, strict=True)]
        distilled = self.train("distilled", self.network(s.student_width), phases, self.targets(teacher))
        return dict(zip(NAMES, (alone, distilled, teacher), strict=True))


def make_trainer(
    network: DifomUNet,
    phases: Sequence[Phase],
    targets: TargetPipeline,
    loaders: tuple[DataLoader, DataLoader],
    settings: Settings,
    seed: int,
    folder: Path,
) -> DistillationTrainer:
    """Return a trainer with validation, monitor, log, pictures and checkpoints, as the bundles compose it."""
    train_loader, val_loader = loaders
    plan = Plan(phases)
    distiller = Distiller(network, targets)
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=val_loader,
        network=network,
        inferer=SimpleInferer(),
        postprocessing=Compose([Activationsd("pred", sigmoid=True), AsDiscreted("pred", threshold=0.5)]),
        key_val_metric={"val_dice": MeanDice(num_classes=1, output_transform=from_engine(["pred", "label"]))},
        decollate=True,
    )
    interval = max(plan.epochs // 15, 1)
    return DistillationTrainer(
        device="cpu",
        plan=plan,
        train_data_loader=train_loader,
        distiller=distiller,
        targets=targets,
        objective=Objective(DiceCELoss(sigmoid=True)),
        optimizer=torch.optim.AdamW(distiller.parameters(), lr=settings.learning_rate, weight_decay=0.01),
        schedule=OneCycle(warmup=0.15),
        seed=seed,
        amp=True,
        channels_last=True,
        train_handlers=[
            ValidationHandler(interval=interval, validator=evaluator, epoch_level=True),
            TrainingProgress(),
            PhaseLog(validator=evaluator),
            CollapseMonitor(val_loader),
            PicturePanel(val_loader, folder),
            TrainingCheckpoint(folder / "models", validator=evaluator, interval=interval),
        ],
    )
