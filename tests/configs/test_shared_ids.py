"""What the bundles share is equal in all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BUNDLES = sorted(folder.name for folder in (ROOT / "bundles").iterdir())

# id -> why the bundles differ in it, and in what is below it
DIFFERENT = {
    "dataset_dir": "where the data of each task lie",
    "structure": "polyp_difom is named after its structure, the others are neutral",
    "modality": "as structure",
    "recipe": "each method is one",
    "rotate": "free geometry is in what polyp_difom was measured with; the other methods' papers have none",
    "scale": "as rotate",
    "shift": "as rotate",
    "unlabelled": "agglomerated_encoder has had a folder of images without masks from the start, under a name of its own",
    "unlabelled_share": "as unlabelled: as many as there are, as it always was",
    "unlabelled_data": "agglomerated_encoder keeps the groups of images together that a person names",
    "soft_masks_of": "agglomerated_encoder has masks of many structures",
    "autolabel": "agglomerated_encoder's training images hold those without masks already",
    "stages": "task_specific_kd trains in stages of its own",
    "start": "task_specific_kd fine-tunes the student that it distilled",
    "student": "as stages",
    "image_size": "the ViT of task_specific_kd was pretrained at 224",
    "epochs": "each method has its own phases",
    "learning_rate": "each student has its own",
    "train_validation": "agglomerated_encoder splits by groups of images that a person names",
    "train_data": "agglomerated_encoder adds images without masks",
    "test_sets": "agglomerated_encoder splits by groups of images that a person names",
    "network_def": "the student is what each method is published with",
    "teacher_def": "only task_specific_kd names a network to adapt; the others take one from an overlay",
    "teacher_licence": "as teacher_def",
    "teacher_source": "as teacher_def",
    "adapt_epochs": "task_specific_kd adapts as its first stage",
    "adapt_steps": "only polyp_difom states how long an epoch is",
    "terms": "what is distilled is what the methods differ in",
    "segmentation_loss": "agglomerated_encoder leaves out structures that an image is not annotated for",
    "plan": "task_specific_kd trains in stages, and train is the last one",
    "train::preprocessing": "agglomerated_encoder reads masks of many structures",
    "train::augmentation": "polyp_difom writes its steps out for overlays; task_specific_kd fine-tunes without stored views",
    "train::dataset": "polyp_difom reads soft masks and images without masks",
    "train::handlers": "only what distils in train watches its targets there",
    "train::trainer": "task_specific_kd fine-tunes without targets, and resumes each of its stages by itself",
    "validate::augmentation": "polyp_difom writes its steps out for overlays",
    "validate::key_metric": "agglomerated_encoder scores many structures",
    "feature_builder": "task_specific_kd distils in a stage of its own",
    "evaluation_chain": "agglomerated_encoder reads masks of many structures",
    "initialize": "agglomerated_encoder checks the masks of its structures",
    "scores": "agglomerated_encoder scores many structures",
    "summary": "task_specific_kd joins its stages",
    "run": "task_specific_kd runs its stages",
}


def differences(parts: Sequence[Any], place: str = "") -> Iterator[str]:
    """Ids that all configurations have, with different values."""
    if all(isinstance(part, dict) for part in parts):
        for key in set.intersection(*(set(part) for part in parts)):
            yield from differences([part[key] for part in parts], f"{place}::{key}".removeprefix("::"))
    elif any(part != parts[0] for part in parts):
        yield place


def test_ids_that_the_bundles_share_are_equal_but_for_those_that_have_a_reason() -> None:
    configs = [yaml.safe_load((ROOT / f"bundles/{name}/configs/train.yaml").read_text()) for name in BUNDLES]
    found = set(differences(configs))
    covered = {name: {place for place in found if f"{place}::".startswith(f"{name}::")} for name in DIFFERENT}
    unexplained = found.difference(*covered.values())
    assert not unexplained, f"different in the bundles, for no reason given here: {sorted(unexplained)}"
    outdated = [name for name, places in covered.items() if not places]
    assert not outdated, f"equal in the bundles by now, take the reason out: {outdated}"


def test_no_training_configuration_is_longer_than_a_person_reads() -> None:
    for name in BUNDLES:
        lines = (ROOT / f"bundles/{name}/configs/train.yaml").read_text().count("\n")
        assert lines < 420, f"{name} has {lines} lines"


@pytest.mark.parametrize(
    "overlay", sorted((ROOT / "configs/data").glob("*.yaml")), ids=lambda file: file.stem
)
def test_images_without_masks_come_from_the_same_split_as_those_with(overlay: Path) -> None:
    """An overlay that prepares a layout reads all its lists from there: another split would train on test images."""
    content = yaml.safe_load(overlay.read_text(encoding="utf-8"))
    if "train_validation" in content:
        source = "@prepared" if "prepared" in content else "@dataset_dir"
        assert source in content["unlabelled_data"]
