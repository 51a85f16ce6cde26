"""The whole chain in minutes, on synthetic images: a teacher, a student alone, the same student distilled."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.engines import SupervisedEvaluator
from monai.handlers import MeanDice, ValidationHandler, from_engine
from monai.losses import DiceCELoss
from monai.transforms import Activationsd, AsDiscreted, Compose
from monai.utils import set_determinism
from PIL import Image, ImageDraw, ImageFont
from torch.utils.data import DataLoader

from .. import __version__, data
from ..engines import DistillationTrainer, Distiller, Objective, OneCycle, Phase, Plan
from ..handlers import CollapseMonitor, PhaseLog, PicturePanel, TrainingCheckpoint, TrainingProgress
from ..metrics import SCORES, compare_paired, image_scores, mean_scores
from ..networks.nets import DifomUNet
from ..networks.teachers import NetworkTeacher
from ..targets import DistillationTerm, TargetPipeline
from ..transforms import IMAGENET_MEAN, IMAGENET_STD
from ..utils import atomic_path, load_state, write_json
from ..utils.weight_files import STUDENT
from .runs.folder import RunFolder
from .runs.summary import summarize
from .runs.timing import milliseconds
from .scoring.evaluate import evaluate_set, predict_probability

# blue and orange of Okabe and Ito, which every eye tells apart
MISSED, TOO_MUCH, FOUND = (0, 114, 178), (230, 159, 0), (225, 225, 225)
NAMES = ("undistilled", "distilled", "teacher")
# one term each: the place where the student must match the teacher's map of the same name
TERMS = {"encoder": "bottleneck", "decoder": "decoder_stride2"}


@dataclass(frozen=True)
class Settings:
    """How large the demo is.

    Args:
        image_size: side of the images.
        input_size: side that the networks see.
        teacher_images: labelled images that the teacher is trained on.
        student_images: labelled images that either student is trained on.
        validation_images: further images, for each of them, that choose the best epoch.
        test_images: images that all three are scored on.
        teacher_width: channels of the teacher's levels.
        student_width: channels of the student's levels.
        teacher_epochs: epochs of the teacher.
        student_epochs: epochs of the distilled student's phases; the undistilled one trains for their sum.
        weight: weight of each distillation term, against 1 for the masks.
        batch_size: images per step.
        learning_rate: highest learning rate.
    """

    image_size: int = 96
    input_size: int = 64
    teacher_images: int = 400
    student_images: int = 48
    validation_images: int = 24
    test_images: int = 100
    teacher_width: tuple[int, ...] = (16, 32, 64, 96, 96)
    student_width: tuple[int, ...] = (8, 16, 32, 64, 64)
    teacher_epochs: int = 44
    student_epochs: tuple[int, int, int] = (25, 50, 25)
    weight: float = 1.5
    batch_size: int = 4
    learning_rate: float = 0.002


QUICK = Settings(
    image_size=64,
    input_size=32,
    teacher_images=24,
    student_images=8,
    validation_images=4,
    test_images=6,
    teacher_width=(8, 16, 32, 32, 32),
    student_width=(4, 8, 16, 16, 16),
    teacher_epochs=2,
    student_epochs=(1, 1, 1),
)


@dataclass(frozen=True)
class Demo:
    """Images and trainings of one demo.

    Args:
        output: folder to write to.
        seed: seed of images, first weights and training.
        settings: sizes.
    """

    output: Path
    seed: int
    settings: Settings

    def write_images(self) -> list[dict[str, str]]:
        """Write the teacher's and the students' data sets, of different images, and return the test items."""
        s, folder = self.settings, self.output / "data"
        for old in folder.rglob("synthetic_*.png"):  # a demo of other settings may have left more images
            old.unlink()
        sets = (("teacher", s.teacher_images, 0), ("student", s.student_images, s.test_images))
        for i, (owner, train, test) in enumerate(sets):
            data.make_polyps(
                folder / owner, train + s.validation_images, test, s.image_size, 2 * self.seed + i
            )
        return data.test_sets(folder / "student")["synthetic"]

    def train_all(self) -> dict[str, DifomUNet]:
        """Train teacher, undistilled and distilled student; return them by name, in the order of `NAMES`."""
        s, no_teacher, masks = self.settings, TargetPipeline({}, []), {"segmentation": 1.0}
        heading(2, f"The teacher, a wide U-Net, learns from {s.teacher_images} labelled images")
        teacher = self.train("teacher", [Phase("masks", s.teacher_epochs, masks)], no_teacher)
        heading(3, f"The student, a narrow U-Net, learns alone from {s.student_images} labelled images")
        alone = self.train("undistilled", [Phase("masks", sum(s.student_epochs), masks)], no_teacher)
        heading(4, "The same student, with the same first weights and images, learns from the teacher too")
        both = {**masks, **dict.fromkeys(TERMS, s.weight)}
        plan = zip(("align", "distil", "refine"), s.student_epochs, (both, both, masks), strict=True)
        distilled = self.train("distilled", [Phase(*phase) for phase in plan], teacher_targets(teacher))
        return dict(zip(NAMES, (alone, distilled, teacher), strict=True))

    def train(self, name: str, phases: Sequence[Phase], targets: TargetPipeline) -> DifomUNet:
        """Train one network through phases, unless an interrupted demo of the same settings has done so.

        Returns:
            The network with the weights of its best epoch on the validation images.
        """
        s, folder = self.settings, RunFolder(self.output / name)
        set_determinism(self.seed)  # both students begin with the same weights
        network = DifomUNet(features=s.teacher_width if name == "teacher" else s.student_width)
        record = json.dumps({"seed": self.seed, "version": __version__, **asdict(s)})
        if not folder.stage.is_file() or folder.stage.read_text() != record:
            trainer = self.trainer(network, phases, targets, folder)
            trainer.run()
            summarize(trainer, {}, folder.path)
            folder.stage.write_text(record)
        network.load_state_dict(load_state(folder.models / STUDENT))
        return network.eval()

    def trainer(
        self, network: DifomUNet, phases: Sequence[Phase], targets: TargetPipeline, folder: RunFolder
    ) -> DistillationTrainer:
        """Return a trainer with validation, monitor, log, pictures and checkpoints, as the bundles do."""
        s, (train_loader, val_loader) = self.settings, self.loaders(folder.path.name)
        plan, distiller = Plan(phases), Distiller(network, targets)
        evaluator = SupervisedEvaluator(
            device=torch.device("cpu"),
            val_data_loader=val_loader,
            network=network,
            postprocessing=Compose([Activationsd("pred", sigmoid=True), AsDiscreted("pred", threshold=0.5)]),
            key_val_metric={"val_dice": MeanDice(output_transform=from_engine(["pred", "label"]))},
        )
        interval = max(plan.epochs // 15, 1)
        return DistillationTrainer(
            device="cpu",
            plan=plan,
            train_data_loader=train_loader,
            distiller=distiller,
            targets=targets,
            objective=Objective(DiceCELoss(sigmoid=True)),
            optimizer=torch.optim.AdamW(distiller.parameters(), lr=s.learning_rate, weight_decay=0.01),
            schedule=OneCycle(warmup=0.15),
            seed=self.seed,
            amp=True,
            channels_last=True,
            train_handlers=[
                ValidationHandler(interval=interval, validator=evaluator, epoch_level=True),
                TrainingProgress(),
                PhaseLog(validator=evaluator),
                CollapseMonitor(val_loader),
                PicturePanel(val_loader, folder.path),
                TrainingCheckpoint(folder.models, validator=evaluator, interval=interval),
            ],
        )

    def loaders(self, name: str) -> tuple[DataLoader, DataLoader]:
        """Return training and validation batches of the teacher, or of either student."""
        s, owner = self.settings, "teacher" if name == "teacher" else "student"
        count = s.teacher_images if owner == "teacher" else s.student_images
        fraction = s.validation_images / (count + s.validation_images)
        train, validation = data.train_validation(self.output / "data" / owner, fraction, self.seed)
        chain = data.loading_chain(s.input_size)
        augmented = data.ViewDataset(train, chain, data.training_augmentation(), self.seed, progress=False)
        plain = data.ViewDataset(validation, chain, data.plain_augmentation(), progress=False)
        sampler = data.EpochSampler(len(augmented), self.seed)
        return DataLoader(augmented, s.batch_size, sampler=sampler), DataLoader(plain, s.batch_size)


def teacher_targets(teacher: DifomUNet) -> TargetPipeline:
    """Return the targets of the distillation: the trained teacher's maps, where `TERMS` says."""
    taps = {tap: teacher.taps[tap] for tap in TERMS.values()}
    contract = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "multiple_of": teacher.divisor}
    frozen = NetworkTeacher(teacher, taps, **contract, licence="trained here")
    terms = [DistillationTerm(name, tap, source=f"unet/{tap}") for name, tap in TERMS.items()]
    return TargetPipeline({"unet": frozen}, terms)


def heading(stage: int, text: str) -> None:
    """Print the one line that opens a stage."""
    print(f"\n[{stage}/5] {text}", flush=True)


def measure(
    networks: Mapping[str, torch.nn.Module], items: Sequence[Mapping[str, str]], settings: Settings
) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """Return the figures of every network on the test items, and the gain by distillation."""
    chain, rows, dice = data.evaluation_chain(settings.input_size), {}, {}
    size = settings.input_size
    times = milliseconds(networks, torch.rand(1, 3, size, size), rounds=40)
    for name, network in networks.items():
        scores = evaluate_set(network, items, chain)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        rows[name] = {**mean_scores(scores), "parameters": parameters, "milliseconds": times[name]}
        dice[name] = [score["dice"] for score in scores]
    change = compare_paired(dice["undistilled"], dice["distilled"]).difference
    return rows, {"dice": change.mean, "low": change.low, "high": change.high}


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the rows as text with aligned columns."""
    dice, hd95 = SCORES["dice"], SCORES["hd95"]
    lines = [f"{'':11} {dice.title:>7} {hd95.heading():>10} {'parameters':>11} {'ms/image':>9}"]
    for name, r in rows.items():
        quality = f"{name:11} {dice.show(r['dice']):>7} {hd95.show(r['hd95']):>10}"
        lines.append(f"{quality} {r['parameters']:11,d} {r['milliseconds']:9.1f}")
    return "\n".join(lines)


def verdict(rows: Mapping[str, Mapping[str, Any]], gain: Mapping[str, float]) -> str:
    """Return one sentence on what the figures say about the distillation."""
    sure = "better" if gain["low"] > 0 else "worse" if gain["high"] < 0 else "neither surely better nor worse"
    before, after = rows["undistilled"], rows["distilled"]
    return (
        f"With this seed distillation made the student {sure}: Dice {before['dice']:.3f} -> {after['dice']:.3f} on "
        f"{after['n']} test images, a change of {gain['dice']:+.3f} (95 % interval {gain['low']:+.3f} to {gain['high']:+.3f})."
    )


def _tile(grey: np.ndarray, mask: np.ndarray, found: np.ndarray) -> Image.Image:
    """Paint on the grey image what was found, what was missed, and what is too much."""
    tile = np.repeat(0.7 * grey[..., None], 3, 2)
    for area, colour in ((mask & found, FOUND), (mask & ~found, MISSED), (found & ~mask, TOO_MUCH)):
        tile[area] = 0.35 * tile[area] + 0.65 * np.array(colour)
    return Image.fromarray(tile.astype(np.uint8))


def draw_predictions(
    networks: Mapping[str, torch.nn.Module], items: Sequence[Mapping[str, str]], size: int, side: int = 192
) -> Image.Image:
    """Draw one row per image: image, label, and the prediction of every network with its Dice.

    Args:
        networks: name -> network, one column each.
        items: test items.
        size: side of the networks' input.
        side: side of a tile in the picture.
    """
    step, head, foot, font = side + 6, 30, 30, ImageFont.load_default(16)
    columns = ("image", "label", *networks)
    sheet = Image.new("RGB", (len(columns) * step + 6, head + len(items) * step + foot), "white")
    pen = ImageDraw.Draw(sheet)
    for column, title in enumerate(columns):
        pen.text((6 + column * step + side / 2, head / 2), title, "black", font, anchor="mm")
    chain = data.evaluation_chain(size)
    for row, item in enumerate(items):
        picture = Image.open(item["image"]).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        mask = np.asarray(Image.open(item["label"]).resize((side, side), Image.Resampling.NEAREST)) > 127
        grey = np.asarray(picture.convert("L"), dtype=np.float32)
        tiles = [(picture, ""), (_tile(grey, mask, mask), "")]
        for network in networks.values():
            image = torch.as_tensor(chain(dict(item))["image"])
            found = predict_probability(network, image, (side, side)).numpy() >= 0.5
            tiles.append((_tile(grey, mask, found), f"{image_scores(found, mask)['dice']:.2f}"))
        for column, (tile, score) in enumerate(tiles):
            left, top = 6 + column * step, head + row * step
            sheet.paste(tile, (left, top))
            pen.text((left + 6, top + 5), score, "white", font, stroke_width=2, stroke_fill="black")
    place, middle = 6.0, sheet.height - foot / 2
    for colour, text in ((FOUND, "found"), (MISSED, "missed"), (TOO_MUCH, "too much")):
        pen.rectangle((place, middle - 7, place + 14, middle + 7), fill=colour, outline="black")
        pen.text((place + 20, middle), text, "black", font, anchor="lm")
        place += 44 + pen.textlength(text, font)
    pen.text((place, middle), "number: Dice of that image", "black", font, anchor="lm")
    return sheet


def run_demo(output: str | Path, seed: int = 0, quick: bool = False) -> int:
    """Run the demo, print its table, leave ``demo.json`` and ``predictions.png``, and return the exit code 0.

    Args:
        output: folder to write to. Trainings that an interrupted demo finished there are taken up.
        seed: seed of images, first weights and training.
        quick: a few images and epochs, to see that everything runs; the figures then mean nothing.

    Raises:
        KeyboardInterrupt: Ctrl-C, with a message that says how to go on.
    """
    output, begun, s = Path(output), time.perf_counter(), QUICK if quick else Settings()
    report, picture = output / "demo.json", output / "predictions.png"
    if report.exists():  # that demo is complete: all is done anew
        for old in (*(RunFolder(output / name).stage for name in NAMES), report):
            old.unlink(missing_ok=True)
    demo, threads = Demo(output, seed, s), torch.get_num_threads()
    # networks this small lose more to the coordination of threads than they gain by them
    torch.set_num_threads(1)
    try:
        heading(1, f"Synthetic images, {s.image_size}x{s.image_size}, are written to {output / 'data'}")
        items = demo.write_images()
        networks = demo.train_all()
        heading(5, f"All three are tested on {s.test_images} new images")
        rows, gain = measure(networks, items, s)
        with atomic_path(picture) as temporary:  # the first images, not the best ones
            draw_predictions(networks, items[:6], s.input_size).save(temporary, format="PNG")
    except KeyboardInterrupt:
        kept = f"What is finished is kept in {output}; the same command goes on from there."
        raise KeyboardInterrupt(kept) from None
    finally:
        torch.set_num_threads(threads)
    seconds = round(time.perf_counter() - begun, 1)
    result = {"rows": rows, "gain": gain, "seed": seed, "quick": quick, "settings": asdict(s)}
    write_json(report, {**result, "version": __version__, "picture": picture.name, "seconds": seconds})
    print(f"\n{table(rows)}\n\n{verdict(rows, gain)}")
    if quick:
        print("This was a quick run, to see that everything works: its figures mean nothing.")
    print(f"Pictures: {picture}\nFigures:  {report}\nTime:     {seconds:.0f} s")
    return 0
