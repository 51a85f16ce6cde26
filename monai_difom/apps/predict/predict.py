"""Segment pictures, videos and volumes with a trained student, one at a time, however many there are."""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from ...transforms.volume_file import hanging_of, open_volume
from ...utils import atomic_path
from ...utils.disk import part_of, remove_leftovers
from ..deployed.runners import Runner, open_runner
from .contours import draw_contours
from .pipeline import ahead, behind
from .sources import (
    PIXEL_LIMIT,
    BadPictureError,
    Frame,
    Source,
    count_frames,
    find_sources,
    frame_rate,
    frames,
)
from .video import video_writer

TABLE = "areas.csv"
COLUMNS = (
    "file",
    "frame",
    "structure",
    "height",
    "width",
    "pixels",
    "share",
    "largest",
    "components",
    "milliseconds",
    "problem",
)


def predict(
    model: str | os.PathLike,
    given: str | os.PathLike,
    output: str | os.PathLike,
    overlay: bool = False,
    engine: str | None = None,
    threshold: float | None = None,
    skip_bad: bool = False,
    pixel_limit: int = PIXEL_LIMIT,
    progress: bool = False,
    trust_torchscript: bool = False,
) -> dict[str, Any]:
    """Write a mask of every picture, and a table of areas.

    ``masks/<name>.png`` has 0 and 255 and the size of its picture (``masks/<structure>/<name>.png`` where there are several
    structures); of a video one per frame, ``<name>/000000.png``; of a volume one ``<name>.nii.gz`` with 0 and 1. ``overlays``
    has the pictures with contours, of a video a video. ``areas.csv`` has one row per picture and structure: pixels, their
    share of the picture, pixels of the largest connected part and the number of parts; and one per picture that was
    skipped, with the problem. Every file is written beside its place and renamed. Pictures are read ahead and results written
    behind while the network runs.

    Args:
        model: of `open_runner`.
        given: a picture, a video, a volume, or a folder of them.
        output: folder for the results.
        overlay: write overlays.
        engine: of `open_runner`.
        threshold: probability from which a pixel counts; None takes the model's.
        skip_bad: report what cannot be read and go on.
        pixel_limit: highest height times width of a picture.
        progress: show a bar.
        trust_torchscript: of `open_runner`.

    Returns:
        ``frames`` (pictures that were segmented), ``skipped`` (problems), ``seconds`` and ``network_seconds``.

    Raises:
        BadPictureError: something cannot be read, and ``skip_bad`` is not set. What was finished before stays; the table is
            not written.
        ValueError: a model that is refused, or a name that leaves the output folder.
        FileNotFoundError: no model, or no input.
    """
    target = Path(output)
    if target.resolve() == Path(given).resolve():
        raise ValueError(f"output is {target}, which is the input. Give another folder.")
    sources = find_sources(given, leave_out=target)  # before a model is opened, which takes seconds
    runner = open_runner(model, engine, trust_torchscript)
    if threshold is not None:
        runner = replace(runner, facts=replace(runner.facts, threshold=threshold))
    facts = runner.facts
    for source in sources:
        for name in runner.facts.structures:  # before anything is written
            _mask_place(target, runner, name, source.name)
    found: dict[str, Any] = {"frames": 0, "skipped": [], "network_seconds": 0.0}
    begun = time.perf_counter()
    with ExitStack() as stack:
        stream = stack.enter_context(open(stack.enter_context(atomic_path(target / TABLE)), "w", newline=""))
        rows = csv.writer(stream)
        rows.writerow(COLUMNS)
        total = sum(count_frames(source, facts.plane) for source in sources) or None
        bar = stack.enter_context(tqdm(total=total, unit="frame", disable=not progress))
        for source in sources:
            with _sink(source, target, runner, overlay) as write, behind() as later:
                for frame in ahead(frames(source, len(facts.mean), pixel_limit, facts.plane, facts.window)):
                    if frame.picture is None:
                        if not skip_bad:
                            raise BadPictureError(f"{frame.problem} Leave it out with --skip-bad.")
                        found["skipped"].append(frame.problem)
                        empty = [""] * (len(COLUMNS) - 3)
                        later(rows.writerow, [source.path, _number(frame), *empty, frame.problem])
                        tqdm.write(f"skipped: {frame.problem}", file=sys.stderr)
                        continue
                    started = time.perf_counter()
                    masks = facts.masks(runner.probabilities(frame.picture))
                    seconds = time.perf_counter() - started
                    later(_write, facts.structures, frame, frame.picture, masks, seconds, write, rows)
                    found["frames"] += 1
                    found["network_seconds"] += seconds
                    bar.update()
        stream.flush()
    found["seconds"] = time.perf_counter() - begun
    return found


def _write(
    structures: Sequence[str],
    frame: Frame,
    picture: np.ndarray,
    masks: np.ndarray,
    seconds: float,
    write: Any,
    rows: Any,
) -> None:
    """Write what was found in one picture, and its rows."""
    write(frame, picture, masks)
    height, width = picture.shape[:2]
    for name, mask in zip(structures, masks, strict=True):
        areas = part_sizes(mask)
        pixels, largest, number = int(areas.sum()), int(areas.max(initial=0)), len(areas)
        share = f"{pixels / mask.size:.6f}"
        about = [frame.source.path, _number(frame), name, height, width]
        rows.writerow([*about, pixels, share, largest, number, f"{1000 * seconds:.1f}", ""])


def part_sizes(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of every connected part of a mask ``(H, W)``, diagonals connected."""
    levels = mask.view(np.uint8) if mask.dtype == bool else mask.astype(np.uint8)
    left, top, width, height = cv2.boundingRect(levels)
    inside = levels[top : top + height, left : left + width]  # labelling costs by the pixel
    if not inside.size:
        return np.zeros(0, int)
    _, _, parts, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(inside), connectivity=8)
    return parts[1:, cv2.CC_STAT_AREA]  # without the background


def _number(frame: Frame) -> str:
    return "" if frame.index is None else str(frame.index)


def inside(folder: Path, *names: str) -> Path:
    """Return a path below a folder.

    Raises:
        ValueError: the names lead out of it, by ``..``, as absolute paths, or over a link.
    """
    path = folder.joinpath(*names)
    if folder.resolve() not in path.resolve().parents:
        raise ValueError(
            f"{'/'.join(names)!r} leads out of the output folder {folder}; nothing is written there."
        )
    return path


def _mask_place(target: Path, runner: Runner, structure: str, name: str) -> Path:
    """Path of a source's mask of a structure, without suffix."""
    several = [structure] if len(runner.facts.structures) > 1 else []
    if several and (Path(structure).name != structure or structure in (".", "..")):
        raise ValueError(f"{structure!r}, a structure of the model, leads out of the output folder {target}.")
    return inside(target, "masks", *several, name)


@contextmanager
def _sink(source: Source, target: Path, runner: Runner, overlay: bool) -> Iterator[Any]:
    """Yield the function that writes the results of a source: ``(frame, picture, masks)``."""
    places = [_mask_place(target, runner, name, source.name) for name in runner.facts.structures]
    drawn = inside(target, "overlays", source.name)
    if source.kind == "picture":

        def write(frame: Frame, picture: np.ndarray, masks: np.ndarray) -> None:
            for place, mask in zip(places, masks, strict=True):
                _save_png(place.with_name(f"{place.name}.png"), mask)
            if overlay:
                _save_png(drawn.with_name(f"{drawn.name}.png"), draw_contours(picture, masks))

        yield write
    elif source.kind == "video":
        with _video_writer(drawn.with_name(f"{drawn.name}.mp4"), source, overlay) as add:

            def write(frame: Frame, picture: np.ndarray, masks: np.ndarray) -> None:
                for place, mask in zip(places, masks, strict=True):
                    _save_png(place / f"{frame.index:06}.png", mask)
                add(picture, masks)

            yield write
    else:
        stacks: list[list[np.ndarray]] = [[] for _ in places]

        def write(frame: Frame, picture: np.ndarray, masks: np.ndarray) -> None:
            for stack, mask in zip(stacks, masks, strict=True):
                stack.append(mask.astype(np.uint8))
            if overlay:
                _save_png(drawn / f"{frame.index:06}.png", draw_contours(picture, masks))

        yield write
        for place, slices in zip(places, stacks, strict=True):
            if slices:
                _save_volume(place.with_name(f"{place.name}.nii.gz"), slices, source, runner.facts.plane)


def _save_png(file: Path, array: np.ndarray) -> None:
    levels = array.astype(np.uint8) * 255 if array.dtype == bool else array
    with atomic_path(file) as temporary:
        Image.fromarray(levels).save(temporary, format="PNG", compress_level=1)


def _save_volume(file: Path, slices: list[np.ndarray], source: Source, plane: str) -> None:
    """Write the masks of a volume's slices on its grid, with the place that its header gives it."""
    import nibabel

    image = open_volume(source.path)
    stored = hanging_of(image, plane).stored(np.stack(slices)).reshape(image.shape)
    mask = nibabel.Nifti1Image(stored, image.affine, dtype=np.uint8)  # type: ignore[attr-defined]
    mask.header.set_zooms(image.header.get_zooms())
    for kind in ("sform", "qform"):
        getattr(mask, f"set_{kind}")(image.affine, code=int(image.header[f"{kind}_code"]) or 1)
    with _beside(file) as temporary:
        nibabel.save(mask, str(temporary))  # type: ignore[attr-defined]


@contextmanager
def _beside(file: Path) -> Iterator[Path]:
    """Yield a name beside a file, with its ending, which says the format to libraries; what is written there takes its place."""
    file.parent.mkdir(parents=True, exist_ok=True)
    ending = "".join(file.suffixes[-2:]) if file.name.endswith(".nii.gz") else file.suffix
    remove_leftovers(file)
    temporary = part_of(file, suffix=ending)
    try:
        yield temporary
        if temporary.is_file():
            os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _video_writer(file: Path, source: Source, wanted: bool) -> Iterator[Any]:
    """Yield a function that adds a picture with contours to a video, which takes its place when all are in."""
    if not wanted:
        yield lambda picture, masks: None
        return
    with _beside(file) as named, video_writer(named, frame_rate(source.path)) as add:
        yield lambda picture, masks: add(draw_contours(picture, masks))


def run_predict(model: Path, given: Path, output: Path, **options: Any) -> int:
    """Do what ``python -m monai_difom predict`` asks for, and return the exit code: 0, 1 (something was skipped), 2 (refused).

    Args:
        model: see `predict`.
        given: see `predict`.
        output: see `predict`.
        options: further arguments of `predict`.
    """
    try:
        found = predict(model, given, output, progress=True, **options)
    except (ValueError, FileNotFoundError) as error:
        print(f"predict: {error}", file=sys.stderr)
        return 2
    count, seconds = found["frames"], max(found["seconds"], 1e-9)
    each = 1000 * found["network_seconds"] / max(count, 1)
    print(
        f"{output}: {count} masks and {TABLE}; {count / seconds:.1f} frames per second with reading and writing, "
        f"{each:.1f} ms per frame for the network."
    )
    if found["skipped"]:
        print(f"{len(found['skipped'])} skipped, see above and {TABLE}.")
    return 1 if found["skipped"] else 0
