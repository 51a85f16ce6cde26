"""The ceiling of the polyp comparison: the teacher's own network, fine-tuned as the encoder of a U-Net.

Same images, view and light augmentation, epochs, batch and loss as `polyp_recipes.py`; the encoder starts from the teacher's
weights with a tenth of the learning rate. The gap that distillation can close is this network's score less the undistilled
student's.

    python benchmarks/teacher_ceiling.py --dataset_dir DATA --teacher_weights FILE --protocol cross --seeds 0

The weight file has its BatchNorm folded into the convolutions; training would normalise folded maps away. They are unfolded
first: statistics are measured on training images and put into the layers so that the function stays the same.
The last line is one JSON object.
"""

from __future__ import annotations

import json
from pathlib import Path

import timm
import torch
from monai.data import DataLoader
from monai.losses import DiceCELoss
from polyp_recipes import dataset_of, shared_arguments
from torch import nn

from monai_difom.apps import evaluate_sets
from monai_difom.data import (
    EpochSampler,
    ViewDataset,
    evaluation_chain,
    loading_chain,
    test_sets,
    train_validation,
    training_augmentation,
)
from monai_difom.engines import DistillationTrainer, Distiller, Objective, OneCycle, Phase, Plan
from monai_difom.networks.blocks import DoubleConv, upsample_like
from monai_difom.networks.taps import Tap
from monai_difom.networks.teachers import timm_teacher
from monai_difom.targets import DistillationTerm, TargetPipeline
from monai_difom.transforms import IMAGENET_MEAN, IMAGENET_STD
from monai_difom.utils import load_state, write_json


class EncoderUNet(nn.Module):
    """MobileNetV2 pyramid with a plain U-Net decoder; takes the student's normalisation."""

    def __init__(self, weights: Path, widths: tuple[int, ...] = (96, 64, 32, 16)) -> None:
        super().__init__()
        self.encoder = timm.create_model(
            "mobilenetv2_100", pretrained=False, pad_type="same", features_only=True
        )
        self.encoder.load_state_dict(load_state(weights), strict=False)
        channels = self.encoder.feature_info.channels()[::-1]
        act, before, blocks = ("relu", {"inplace": True}), channels[0], []
        for skip, width in zip(channels[1:], widths, strict=True):
            blocks.append(DoubleConv(2, before + skip, width, act, "batch", False))
            before = width
        self.decoder = nn.ModuleList(blocks)
        self.head = nn.Conv2d(before, 1, 1)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        self.taps = {"bottleneck": Tap("encoder", channels[0], 32)}

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return logits at the size of the image."""
        maps = self.encoder((image * self.std + self.mean) * 2 - 1)[::-1]
        x = maps[0]
        for skip, block in zip(maps[1:], self.decoder, strict=True):
            x = block(torch.cat([upsample_like(x, skip, False), skip], 1))
        return upsample_like(self.head(x), image, False)


@torch.no_grad()
def unfold_batch_norm(network: EncoderUNet, images: torch.Tensor) -> None:
    """Give the encoder's identity BatchNorms the statistics of their inputs, without changing the function."""
    network.eval()
    expected = network.encoder(images)[-1]
    norms = [m for m in network.encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    handles = [m.register_forward_pre_hook(lambda m, args: seen.__setitem__(m, args[0])) for m in norms]
    seen: dict[nn.Module, torch.Tensor] = {}
    network.encoder(images)
    for handle in handles:
        handle.remove()
    for norm in norms:
        mean, variance = seen[norm].mean((0, 2, 3)), seen[norm].var((0, 2, 3))
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        norm.bias += (mean - norm.running_mean) * scale
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
    torch.testing.assert_close(network.encoder(images)[-1], expected, rtol=1e-3, atol=1e-2)


def train(dataset: Path, weights: Path, seed: int, epochs: int) -> dict[str, dict[str, float]]:
    """Fine-tune and score one network."""
    torch.manual_seed(seed)
    pairs, _ = train_validation(dataset, 0.1, seed)
    data = ViewDataset(pairs, loading_chain(128), training_augmentation(), seed=seed, progress=False)
    loader = DataLoader(
        data, batch_size=16, sampler=EpochSampler(len(data), seed), num_workers=0, drop_last=True
    )
    network = EncoderUNet(weights)
    unfold_batch_norm(network, next(iter(loader))["teacher_image"] * 2 - 1)
    # no term has a weight: the pipeline is there because the trainer asks for one, and no teacher runs
    teacher = timm_teacher("mobilenetv2_100", weights, pad_type="same", mean=[0.5] * 3, std=[0.5] * 3)
    targets = TargetPipeline({"unused": teacher}, [DistillationTerm("unused", tap="bottleneck")])
    distiller = Distiller(network, targets)
    fast = [p for name, p in network.named_parameters() if not name.startswith("encoder")]
    groups = [{"params": fast, "lr": 2e-3}, {"params": list(network.encoder.parameters()), "lr": 2e-4}]
    trainer = DistillationTrainer(
        device="cpu",
        plan=Plan([Phase("segment", epochs)]),
        train_data_loader=loader,
        distiller=distiller,
        targets=targets,
        objective=Objective(DiceCELoss(sigmoid=True)),
        optimizer=torch.optim.AdamW(groups, weight_decay=0.01),
        schedule=OneCycle(warmup=0.15),
        seed=seed,
        amp=True,
        channels_last=True,
    )
    trainer.run()
    return evaluate_sets(network, test_sets(dataset), evaluation_chain(128))


def main() -> None:
    """Train what is missing and print the scores."""
    parser = shared_arguments(__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    dataset = dataset_of(options)
    found = {}
    for seed in options.seeds:
        file = options.runs / f"{options.protocol}_ceiling_{seed}.json"
        if not file.exists():
            write_json(file, train(dataset, options.teacher_weights, seed, options.epochs))
        found[seed] = json.loads(file.read_text())
    print(json.dumps({"protocol": options.protocol, "ceiling": found}))


if __name__ == "__main__":
    main()
