"""What a data set holds, in a few lines, before anything is trained on it; and what is wrong with it, all at once."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from statistics import median
from typing import Any

from tqdm import tqdm

from ...utils import few, listed, main_rank_only
from .item_facts import ItemFacts, facts_of
from .same_images import shared_images, shared_text

logger = logging.getLogger(__name__)
SHOWN = 20
Items = Sequence[Mapping[str, Any]]


def survey(
    items: Items,
    mask_threshold: float | None = None,
    structures: Sequence[str] | None = None,
    classes: int | None = None,
    deep: bool = False,
    progress: bool = True,
) -> list[ItemFacts]:
    """Return what every item holds: all masks are read, of images the heads.

    Args:
        items: ``{"image": path, "label": path}`` items; without label, or with that of `monai_difom.data.structures`.
        mask_threshold: see `monai_difom.transforms.read_mask`.
        structures: names of the channels, where a label has several.
        classes: number of classes, where a mask holds class numbers.
        deep: unpack every image too.
        progress: show a progress bar.
    """
    look = partial(facts_of, mask_threshold=mask_threshold, structures=structures, classes=classes, deep=deep)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        found = pool.map(look, items)
        return list(
            tqdm(found, desc="Looking at images", total=len(items), disable=not progress, leave=False)
        )


def check_pairs(items: Items, mask_threshold: float | None = None, progress: bool = True) -> None:
    """Open every image and mask completely and report everything that is wrong with them at once.

    Args:
        items: ``{"image": path, "label": path}`` items; extra keys are passed over. Of NIfTI volumes the grids are compared too.
        mask_threshold: see `monai_difom.transforms.read_mask`.
        progress: show a progress bar.

    Raises:
        ValueError: files cannot be read, sizes differ or masks are not binary; lists up to 20 problems.
    """
    _refuse_problems(survey(items, mask_threshold, deep=True, progress=progress), "image and mask pairs")


def check_structures(items: Items, structures: Sequence[str], progress: bool = True) -> None:
    """Open every image and all its masks and report everything that is wrong with them at once.

    Args:
        items: items of `training_pairs`.
        structures: names in the order of the channels.
        progress: show a progress bar.

    Raises:
        ValueError: files cannot be read or do not fit; lists up to 20 problems. Or a structure was annotated nowhere.
    """
    found = survey(items, structures=structures, deep=True, progress=progress)
    _refuse_problems(found, "images")
    _refuse_unannotated(found, structures)


@main_rank_only
def describe_data(
    training: Items,
    validation: Items,
    tests: Mapping[str, Items],
    mask_threshold: float | None = None,
    structures: Sequence[str] | None = None,
    classes: int | None = None,
    check: bool = False,
    progress: bool = True,
) -> dict[str, list[str]]:
    """Say in the log what training, validation and test sets hold and what looks wrong, and refuse what cannot be trained on.

    Args:
        training: items to train on; those without label are counted.
        validation: items to validate on.
        tests: name -> items.
        mask_threshold: see `survey`.
        structures: see `survey`.
        classes: see `survey`.
        check: unpack every image too, compare the pixels of training and test images, not only their files, and refuse test
            images that are trained or validated on. Else these are said, and `summary.json` and the report say them again.
        progress: show a progress bar.

    Returns:
        Name of the set -> what was said of it.

    Raises:
        ValueError: files that are not understood (all are named); masks of which all are empty, or all full; with
            ``check`` a test image among those to train or validate on.
    """
    look = partial(
        survey,
        mask_threshold=mask_threshold,
        structures=structures,
        classes=classes,
        deep=check,
        progress=progress,
    )
    sets = {"training": training, "validation": validation}
    sets |= {f"test set {name}": items for name, items in tests.items()}
    found = {name: look(items) for name, items in sets.items() if items}
    every = [facts for part in found.values() for facts in part]
    _refuse_problems(every, "images")
    shared = shared_images({name: sets[name] for name in found}, pixels=check)
    texts = {test: [shared_text(test, *pair) for pair in others.items()] for test, others in shared.items()}
    if check and texts:
        raise ValueError(next(iter(texts.values()))[0])
    said = {name: [*_lines(part), *texts.get(name, [])] for name, part in found.items()}
    for name, lines in said.items():
        logger.info("Data, %s: %s", name, lines[0])
        for line in lines[1:]:
            logger.warning("Data, %s: %s", name, line)
    _refuse_empty([*found.get("training", []), *found.get("validation", [])])
    if check and structures is not None:
        _refuse_unannotated([*found.get("training", []), *found.get("validation", [])], structures)
    return said


def _lines(found: Sequence[ItemFacts]) -> Iterator[str]:
    """The facts of a set in one line, and then one line for each thing that looks wrong."""
    parts = [f"{len(found)} images", _kinds(found)]
    marked = [facts for facts in found if facts.share is not None]
    shares = [float(facts.share or 0) for facts in marked]
    empty = [facts for facts in marked if facts.share == 0]
    full = [facts for facts in marked if facts.share == 1]
    if len(marked) < len(found):
        parts.append(f"{len(found) - len(marked)} without a mask")
    if marked:
        conventions = Counter(facts.levels for facts in marked)
        parts.append("masks " + ", ".join(f"{name} x {count}" for name, count in conventions.most_common()))
        parts.append(
            f"foreground {_percent(min(shares))} to {_percent(max(shares))}, median {_percent(median(shares))}"
        )
        parts.append(f"{len(empty)} empty and {len(full)} full masks")
    yield "; ".join(part for part in parts if part) + "."
    yield from _doubts(marked, empty, full)


def _doubts(
    marked: Sequence[ItemFacts], empty: Sequence[ItemFacts], full: Sequence[ItemFacts]
) -> Iterator[str]:
    if marked and len(empty) == len(marked):
        yield "all masks are empty: nothing can be found in this set, and an empty prediction scores Dice 1."
    if full and len(full) < len(marked):
        yield f"{len(full)} mask(s) are foreground everywhere: {_few(full)}."
    turned = [facts for facts in marked if facts.corners == 4 and 0.5 < float(facts.share or 0) < 1]
    if turned:
        which = "the masks look" if len(turned) > len(marked) / 2 else f"{len(turned)} mask(s) look"
        yield (
            f"{which} inverted: foreground in all four corners and in more than half of the image: {_few(turned)}. "
            "Foreground is what is not 0."
        )
    plain = Counter(facts.levels for facts in marked if facts.levels.startswith("0/"))
    if len(plain) > 1:
        rare, count = plain.most_common()[-1]
        names = [facts for facts in marked if facts.levels == rare]
        often = plain.most_common()[0][0]
        yield f"{count} mask(s) hold {rare} where others hold {often}; each is read as what it is: {_few(names)}."


def _kinds(found: Sequence[ItemFacts]) -> str:
    """What is in the files beside their pixels: modes, bits, orientations, pages, transparency."""
    kinds = Counter(facts.kind for facts in found)
    parts = [", ".join(f"{kind} x {count}" for kind, count in kinds.most_common(6))]
    turned = Counter(facts.orientation for facts in found if facts.orientation not in ("", "1"))
    if turned:
        listed = ", ".join(f"{value} x {count}" for value, count in sorted(turned.items()))
        volumes = any(facts.volume for facts in found)
        parts.append(f"orientations {listed}" if volumes else f"turned upright by EXIF orientation {listed}")
    for what in ("previews behind the first page", "transparency, which is dropped"):
        count = sum(what in facts.remarks for facts in found)
        if count:
            parts.append(f"{count} with {what}")
    return "; ".join(parts)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _few(found: Sequence[ItemFacts], shown: int = 3) -> str:
    return few([os.path.basename(facts.image) for facts in found], shown)


def _refuse_problems(found: Sequence[ItemFacts], what: str) -> None:
    problems = [problem for facts in found for problem in facts.problems]
    if problems:
        raise ValueError(
            f"{len(problems)} problem(s) in {len(found)} {what}:{listed(problems, SHOWN)}\n"
            "Repair or remove these files (both of a pair), then start again."
        )


def _refuse_empty(found: Sequence[ItemFacts]) -> None:
    shares = [facts.share for facts in found if facts.share is not None]
    for share, said in ((0, "empty"), (1, "full: every pixel is foreground")):
        if shares and all(value == share for value in shares):
            raise ValueError(
                f"all {len(shares)} masks of the training and validation images are {said}. Nothing can be learned from them: "
                f"look at the masks ({_few(found)}) and at mask_threshold."
            )


def _refuse_unannotated(found: Sequence[ItemFacts], structures: Sequence[str]) -> None:
    seen = {name for facts in found for name in facts.annotated}
    problems = [f"structure {name!r} is annotated in no image" for name in structures if name not in seen]
    if problems:
        shown = "\n".join(f"  - {problem}" for problem in problems[:SHOWN])
        raise ValueError(f"{len(problems)} problem(s) in {len(found)} images:\n{shown}")
