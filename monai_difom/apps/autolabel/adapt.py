"""Fine-tune a teacher for the task: several seeds, or folds that label each other's images; each member done once."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.handlers import ValidationHandler
from monai.losses import DiceCELoss
from monai.transforms import Compose
from monai.utils import set_determinism
from torch import nn

from ...data import (
    ViewDataset,
    chain_at_size,
    evaluation_chain,
    image_keys,
    loading_chain,
    plain_augmentation,
    split_folds,
    training_augmentation,
)
from ...engines import AdaptSettings, MeanPrediction, adaptation_trainer, adaptation_validator
from ...handlers import PhaseLog, PicturePanel, TrainingCheckpoint, TrainingProgress, kept_weights
from ...losses import AnnotatedLoss
from ...networks.lora import add_lora
from ...transforms import NormalizeImaged, allowed_views
from ...utils import all_ranks_here, file_digest, is_main_rank, unknown_name, write_json
from ...utils.documents import read_large_json
from ..bundle.stages import begin_stage, end_stage, last_checkpoint, load_kept
from ..deployed.facts import Deployment
from ..runs.folder import RunFolder
from ..runs.record import finish_record, run_training
from ..runs.summary import summarize
from ..scoring.evaluate import evaluate_sets
from .adapted import ADAPTERS, MODEL, TEACHER, AdaptedTeacher, Member, plain_definition, read_adapted
from .page import adaptation_page

logger = logging.getLogger(__name__)
Items = Sequence[Mapping[str, Any]]
_FACTS = "member.json"


@dataclass
class Adaptation:
    """What is fine-tuned, on what and how; `run` does it.

    Every member is trained in a folder of its own below ``output_dir`` (one alone in ``output_dir`` itself), with record,
    curves, checkpoints, summary and tables of scores, and ``model.pt`` of the best epoch by validation, or of the last one where
    validation images are few (`monai_difom.handlers.kept_weights`). With K folds there are K members per seed, each trained
    without one fold: on a labelled image those speak that have not learned its mask by heart.

    Args:
        definition: ``_target_`` and arguments of the network, plain data: a segmenter of one channel per structure (sigmoid).
        train: labelled training items.
        validation: labelled items that choose the best epoch; in no fold.
        output_dir: folder of the members and of ``teacher.json``, which ``autolabel`` reads.
        image_size: side or ``(height, width)`` of the teacher's images, whatever the student's.
        test_sets: name -> items that members and teacher are scored on.
        folds: number of folds; 1 trains on all labelled images.
        seeds: number of seeds, from ``seed`` on.
        seed: first seed of weights, order and augmentation.
        lora: arguments of `monai_difom.networks.lora.add_lora`; None trains the whole network.
        loss: mask loss; None takes Dice and cross-entropy.
        preprocessing: the student's loading chain, of which the size is changed; None takes `loading_chain`.
        augmentation: random chain; None takes `training_augmentation`.
        plain: what validation has in its place; None takes `plain_augmentation`.
        evaluation: the student's evaluation chain, of which the size is changed; None takes `evaluation_chain`.
        structures: names of the structures; None for one binary mask.
        mask_threshold: see `loading_chain`.
        settings: fields of `monai_difom.engines.AdaptSettings`.
        licence: licence of the adapted weights.
        source: where they came from.
        device: where to train.
        progress: show progress bars.

    Example::

        Adaptation({"_target_": "monai_difom.networks.nets.LightSegmenter", "decoder": "unet"}, train, validation, "runs/adapt",
                   image_size=224, folds=3, settings={"epochs": 20}).run()
    """

    definition: Mapping[str, Any] | None
    train: Items
    validation: Items
    output_dir: str | os.PathLike
    image_size: int | Sequence[int]
    test_sets: Mapping[str, Items] = field(default_factory=dict)
    folds: int = 1
    seeds: int = 1
    seed: int = 0
    lora: Mapping[str, Any] | None = None
    loss: nn.Module | None = None
    preprocessing: Compose | None = None
    augmentation: Compose | None = None
    plain: Compose | None = None
    evaluation: Compose | None = None
    structures: Sequence[str] | None = None
    mask_threshold: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "that of the weights it started from and of the labelled images"
    source: str = ""
    device: torch.device | str = "cpu"
    progress: bool = True

    def __post_init__(self) -> None:
        if not self.definition or "_target_" not in self.definition:
            raise ValueError(
                "there is no network to adapt: teacher_def is empty. Add an overlay that defines one, such as "
                "configs/teachers/efficientnet_lite2.yaml or unet_adapted.yaml, or write teacher_def in a file of your own."
            )
        if self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}; allowed is a number of seeds, from 1.")
        known = [f.name for f in fields(AdaptSettings)]
        for name in self.settings:
            if name not in known:
                raise ValueError(unknown_name("setting of an adaptation", name, known))
        self.folder = Path(self.output_dir)
        self.parts = split_folds(self.train, self.folds, self.seed)
        self.how = AdaptSettings(**self.settings)

    @cached_property
    def keys(self) -> dict[str, str]:
        """Path of every labelled image -> the digest of its bytes."""
        paths = [str(item["image"]) for item in [*self.train, *self.validation]]
        return dict(zip(paths, image_keys([{"image": path} for path in paths]), strict=True))

    def run(self) -> dict[str, Any]:
        """Adapt every member that is not finished, score them together, and return what ``teacher.json`` holds.

        Raises:
            ValueError: a folder holds members of other settings or images; a mask or size that the network cannot take.
        """
        seeds = range(self.seed, self.seed + self.seeds)
        members = tuple(self._member(seed, fold) for seed in seeds for fold in range(self.folds))
        found = AdaptedTeacher(
            self.folder,
            plain_definition(self.definition or {}, keep_weights=self.lora is not None),
            self._facts(_facts_of(self.folder / members[0].folder)["structures"]),
            members,
            {},
            self.licence,
            self.source,
        )
        done = (self.folder / TEACHER).is_file() and read_adapted(self.folder).members == members
        if is_main_rank() and not done:
            found = replace(found, test_sets=self._score(found))
            found.write()
            adaptation_page(found)
        all_ranks_here()
        return read_adapted(self.folder).content()

    def _member(self, seed: int, fold: int) -> Member:
        """Return a member, trained now unless it was before."""
        alone = self.seeds == self.folds == 1
        name = f"seed{seed}" if self.folds == 1 else f"seed{seed}_fold{fold}"
        folder = self.folder if alone else self.folder / name
        held_out = [] if self.folds == 1 else self.parts[fold]
        rest = [item for i, part in enumerate(self.parts) if self.folds == 1 or i != fold for item in part]
        if begin_stage(folder, self._stage(seed, fold, rest)):
            set_determinism(seed=seed)
            logger.info("Adapting %s: %d images, %d held out.", name, len(rest), len(held_out))
            self._train(seed, folder, rest, held_out)
            all_ranks_here()
            end_stage(folder)
        weights = MODEL if self.lora is None else ADAPTERS
        facts = _facts_of(folder)
        return Member(
            name,
            "." if alone else name,
            weights,
            file_digest(folder / weights),
            seed,
            None if self.folds == 1 else fold,
            tuple(sorted(self.keys[str(item["image"])] for item in rest)),
            facts["best"],
            facts["held_out"],
            facts["test_sets"],
        )

    def _stage(self, seed: int, fold: int, rest: Items) -> dict[str, Any]:
        """All that a member depends on, for the note in its folder."""
        return {
            "teacher_def": plain_definition(self.definition or {}, keep_weights=True),
            "image_size": self.image_size,
            "lora": self.lora,
            "seed": seed,
            "fold": [fold, self.folds],
            "labelled images": self._digest(rest),
            "validation images": self._digest(self.validation),
            **{name: value for name, value in asdict(self.how).items() if name not in _FREE},
        }

    def _digest(self, items: Items) -> str:
        joined = "".join(sorted(self.keys[str(item["image"])] for item in items))
        return f"{len(items)} ({hashlib.sha256(joined.encode()).hexdigest()[:12]})"

    def _train(self, seed: int, folder: Path, rest: Items, held_out: Items) -> None:
        network = _build(self.definition or {})
        if self.lora is not None:
            network = add_lora(network, **self.lora)
        data = self._dataset(rest, self.augmentation or training_augmentation(), seed)
        validator = self._validator(network, self.validation)
        trainer = adaptation_trainer(
            network,
            data,
            self.how,
            self.loss or AnnotatedLoss(DiceCELoss(sigmoid=True)),
            self._handlers(folder, validator),
            seed,
            self.device,
            last_checkpoint(RunFolder(folder).models),
        )
        run_training(trainer, folder)
        all_ranks_here()
        if not is_main_rank():
            return
        load_kept(network, folder / MODEL, folder / ADAPTERS)
        scores = self._evaluate(network, folder)
        summary = summarize(trainer, scores, folder)
        finish_record(trainer, folder)
        facts = {"best": summary["best"], "held_out": {}, "test_sets": scores}
        facts["structures"] = self._names(network)
        if held_out:
            judge = self._validator(network, held_out)
            judge.run()
            facts["held_out"] = {"dice": judge.state.metrics["val_dice"], "n": len(held_out)}
        write_json(folder / _FACTS, facts)

    def _handlers(self, folder: Path, validator: Any) -> list[Any]:
        return [
            ValidationHandler(interval=self.how.val_interval, validator=validator, epoch_level=True),
            TrainingProgress(enabled=self.progress),
            PhaseLog(log_dir=folder / "tensorboard", validator=validator),
            PicturePanel(loader=validator.data_loader, output_dir=folder),
            TrainingCheckpoint(
                RunFolder(folder).models,
                validator,
                self.how.save_interval,
                keep=kept_weights(len(self.validation)),
            ),
        ]

    def _dataset(self, items: Items, augment: Callable, seed: int = 0) -> ViewDataset:
        chain = self.preprocessing or loading_chain(self.image_size, self.mask_threshold, self.structures)
        chain = chain_at_size(chain, self.image_size)
        return ViewDataset(items, chain, augment, seed, self.how.cache_rate, self.progress)

    def _validator(self, network: nn.Module, items: Items) -> Any:
        data = self._dataset(items, self.plain or plain_augmentation())
        return adaptation_validator(network, data, self.how, self._names(network), self.device)

    @torch.no_grad()
    def _names(self, network: nn.Module) -> list[str]:
        """Names of a network's channels: those of the structures, or numbers."""
        if self.structures:
            return list(self.structures)
        was_training, weight = network.training, next(network.parameters())
        count = network.eval()(torch.zeros(1, 3, *self._size(), device=weight.device)).shape[1]
        network.train(was_training)
        return ["foreground"] if count == 1 else [f"structure_{number}" for number in range(count)]

    def _chain(self) -> Compose:
        chain = self.evaluation or evaluation_chain(
            self.image_size, self.mask_threshold, structures=self.structures
        )
        return chain_at_size(chain, self.image_size)

    def _evaluate(self, network: nn.Module, folder: Path) -> dict[str, dict[str, Any]]:
        return evaluate_sets(
            network,
            self.test_sets,
            self._chain(),
            self.device,
            output_dir=folder,
            structures=self.structures,
        )

    def _score(self, teacher: AdaptedTeacher) -> dict[str, dict[str, Any]]:
        """Score all members together over the views: what the soft masks are made of."""
        networks = [teacher.network(member) for member in teacher.members]
        mean = MeanPrediction(networks, allowed_views(range(8), self._size()))
        return self._evaluate(mean, self.folder / "together")

    def _size(self) -> tuple[int, int]:
        sides = (self.image_size,) * 2 if isinstance(self.image_size, int) else tuple(self.image_size)
        return sides[0], sides[1]

    def _facts(self, structures: Sequence[str]) -> Deployment:
        normalise = [step for step in self._chain().transforms if isinstance(step, NormalizeImaged)]
        mean, std = (tuple(getattr(normalise[-1], name).tolist()) for name in ("mean", "std"))
        return Deployment(self._size(), mean, std, structures=tuple(structures))


# what may differ between two starts of one member
_FREE = ("num_workers", "cache_rate", "save_interval")


def _build(definition: Mapping[str, Any]) -> nn.Module:
    """Build a network of the configuration that is being run."""
    parser = ConfigParser({"imports": ["$import torch"], "network": dict(definition)})
    return parser.get_parsed_content("network")


def _facts_of(folder: Path) -> dict[str, Any]:
    """What is known of a finished member: ``best``, ``held_out``, ``test_sets`` and ``structures``."""
    return read_large_json(folder / _FACTS)
