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
from monai_difom.networks.nets import DifomUNet, SamSegmenter
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
    loader = changes.pop("loader", None)
    if loader is None:
        train, _ = train_validation(data, 0.25)
        dataset = ViewDataset(
            train,
            loading_chain(SIZE),
            changes.pop("augment", None) or training_augmentation(),
            progress=False,
            features=changes.pop("features", None),
        )
        sampler = EpochSampler(len(dataset), **changes.pop("sampler", {}))
        loader = DataLoader(dataset, batch_size=changes.pop("batch_size", 3), sampler=sampler, num_workers=0)
    teacher = changes.pop("teacher", None) or make_teacher()
    torch.manual_seed(0)
    student = changes.pop("student", None) or DifomUNet(2, 3, 1, (4, 6, 8))
    fuse = changes.pop("fuse", "pca")
    targets = TargetPipeline(
        {changes.pop("name", "tiny"): teacher},
        changes.pop("terms", make_terms()),
        fuse=fuse,
        fuse_channels=6,
        fit_images=6,
    )
    distiller = Distiller(student, targets, changes.pop("taps", None))
    objective = Objective(
        changes.pop("loss", None) or DiceCELoss(sigmoid=True), changes.pop("balancer", None)
    )
    optimizer = torch.optim.AdamW(
        [*distiller.parameters(), *targets.parameters(), *objective.parameters()],
        lr=changes.pop("learning_rate", 2e-3),
    )
    return DistillationTrainer(
        device="cpu",
        plan=plan or make_plan(),
        train_data_loader=loader,
        distiller=distiller,
        targets=targets,
        objective=objective,
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


TINY_SAM = {
    **{
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
        "global_attn_indexes": (1,),
        "img_size": 64,
        "patch_size": 8,
    },
    **{"out_chans": 16, "decoder_depth": 1, "decoder_heads": 2, "decoder_mlp_dim": 16, "window_size": 3},
}


def tiny_sam_segmenter(seed: int = 4, **changes: Any) -> SamSegmenter:
    """A SAM of segment-anything with patches of 8 pixels, as a segmenter of random weights."""
    torch.manual_seed(seed)
    architecture = {} if "weights" in changes else {"architecture": TINY_SAM}
    network = SamSegmenter(**{"model_type": "small", **architecture, **changes})
    for name, parameter in network.named_parameters():
        if "rel_pos" in name:  # the package starts them at zero, where a mistake in them would not show
            torch.nn.init.normal_(parameter, std=0.2)
    return network


def tiny_transformers_sam(folder: Path) -> Path:
    """Write a SAM of transformers of 64x64 images with random weights, as save_pretrained does."""
    from transformers import (
        SamConfig,
        SamMaskDecoderConfig,
        SamModel,
        SamPromptEncoderConfig,
        SamVisionConfig,
    )

    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 64,
        "patch_size": 8,
    }
    rest = {
        "mlp_dim": 32,
        "global_attn_indexes": [1],
        "output_channels": 16,
        "num_pos_feats": 8,
        "window_size": 3,
    }
    decoder = {"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    torch.manual_seed(6)
    config = SamConfig(
        vision_config=SamVisionConfig(**sizes, **rest).to_dict(),
        prompt_encoder_config=SamPromptEncoderConfig(hidden_size=16, image_size=64, patch_size=8).to_dict(),
        mask_decoder_config=SamMaskDecoderConfig(**decoder, num_hidden_layers=1).to_dict(),
    )
    sam = SamModel(config)
    for parameter in sam.parameters():  # the library starts them near zero
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    sam.save_pretrained(folder / "hf_sam")
    return folder / "hf_sam"


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
