"""Soft masks of images by one teacher or many: the mean over teachers, folds and views, each image once."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tqdm import tqdm

from ...data import SoftMaskError, SoftMasks, SoftMaskWriter
from ...data.soft_masks import certainty, disagreement
from ...data.soft_masks.store import check_not_constant
from ...transforms import VIEWS, allowed_views
from ...utils import all_ranks_here, is_main_rank, own_rank, world_size
from ..predict.sources import BadPictureError, read_picture
from .images import Images, ToLabel, are_volumes, images_to_label
from .page import label_page
from .ranking import copy_next, look_of, write_ranking
from .teachers import MaskTeacher, heard, open_teachers, prepared
from .volumes import label_volumes

logger = logging.getLogger(__name__)
_AHEAD = 3  # groups of images that are loaded while the networks run


@dataclass
class _Loaded:
    image: ToLabel
    size: tuple[int, int]
    inputs: dict[Any, torch.Tensor]
    look: str


def label_images(
    teachers: Sequence[str | os.PathLike],
    images: Images,
    output_dir: str | os.PathLike,
    views: int | Sequence[int] = 8,
    structures: Sequence[str] | None = None,
    dtype: str = "uint8",
    device: torch.device | str = "cpu",
    workers: int = 2,
    skip_bad: bool = False,
    shown: int = 12,
    copied: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Write the soft mask of every image, which of them to label next, and a page that shows the extremes.

    An image whose mask some of the teachers have learned is labelled by the others, where there are any. What is there
    already for the same images, teachers and views is kept; a killed call goes on where it was. Several processes
    (``torchrun``) share the images.

    Args:
        teachers: folders and files, see `open_teachers`.
        images: a folder, with its subfolders; or paths, or items with ``image``: pictures, or NIfTI volumes for teachers of such.
        output_dir: folder of the soft masks (see `monai_difom.data.SoftMasks`), ``label_next.csv`` and ``autolabel.html``.
        views: dihedral views that a network sees: their number (the first ones) or their numbers; of teachers whose input is not
            square those that keep its shape.
        structures: names of the structures; None takes those of the teachers.
        dtype: ``"uint8"`` or ``"float16"``.
        device: where torch networks run.
        workers: threads that load images while the networks run.
        skip_bad: report images that cannot be read and go on.
        shown: images on each side of the page; 0 for no page.
        copied: number of images to label next that are copied to the folder ``next`` in the output.
        progress: show a progress bar.

    Returns:
        ``images`` (with a soft mask), ``written`` (now, by this process), ``skipped`` (problems), ``seconds``, ``certainty`` and
        ``disagreement`` (means), ``learned`` (images that only teachers labelled that had learned their masks), ``teachers``.

    Raises:
        SoftMaskError: the folder holds soft masks of other teachers or views; maps that do not fit the images; soft masks
            that are all constant.
        BadPictureError: an image cannot be read.
        ValueError: see `open_teachers`; no images or views.
        FileNotFoundError: see `open_teachers`.
    """
    begun = time.perf_counter()
    chosen = tuple(range(views)) if isinstance(views, int) else tuple(int(view) for view in views)
    if not chosen or not set(chosen) <= set(range(len(VIEWS[2]))):
        raise ValueError(
            f"views is {views}; allowed is a number from 1 to 8, or a list of numbers from 0 to 7."
        )
    found = open_teachers(teachers, structures, device)
    of_volumes = are_volumes(found)
    listed = images_to_label(images, of_volumes, progress and is_main_rank())
    _check_maps(found, listed, output_dir, progress and is_main_rank())
    signatures = {teacher.name: teacher.signature for teacher in found}
    writer = SoftMaskWriter(output_dir, found[0].structures, signatures, chosen, dtype, own_rank())
    # by number, not by what is left: every process must know its own without asking
    own = listed[own_rank() :: world_size()]
    left = set(writer.missing([image.key for image in own]))
    todo = [image for image in own if image.key in left]
    shows = progress and is_main_rank()
    if of_volumes:
        written, skipped = label_volumes(found, writer, todo, chosen, skip_bad, shows)
    else:
        labeller = _Labeller(found, writer, chosen, workers, skip_bad, shows)
        labeller.run(todo, len(own))
        written, skipped = labeller.written, labeller.skipped
    all_ranks_here()
    result = {"written": written, "skipped": skipped}
    if is_main_rank():
        masks = writer.finish()
        result |= _conclude(masks, listed, found, shown, copied)
    all_ranks_here()
    return {**result, "seconds": time.perf_counter() - begun}


def _check_maps(
    teachers: Sequence[MaskTeacher], images: Sequence[ToLabel], output: Any, progress: bool
) -> None:
    for teacher in teachers:
        if teacher.maps is not None:
            if teacher.maps.folder.resolve() == Path(output).expanduser().resolve():
                raise ValueError(f"{output} is a teacher, and cannot be the output too. Give another folder.")
            teacher.maps.check([image.path for image in images], progress=progress)


def _conclude(
    masks: SoftMasks, images: Sequence[ToLabel], teachers: Sequence[MaskTeacher], shown: int, copied: int
) -> dict[str, Any]:
    paths = {image.key: image.path for image in images if image.key in masks.entries}
    entries = [masks.entries[key] for key in paths]
    if not entries:
        raise SoftMaskError(f"not one of {len(images)} images could be read; see above.")
    check_not_constant(masks.folder, [entry["range"] for entry in entries])
    rows = write_ranking(masks, paths)
    if shown:
        label_page(masks, rows, shown)
    if copied:
        copy_next(rows, masks.folder / "next", copied)
    return {
        "images": len(entries),
        "certainty": sum(entry["certainty"] for entry in entries) / len(entries),
        "disagreement": sum(entry["disagreement"] for entry in entries) / len(entries),
        "learned": sum(entry["learned"] for entry in entries),
        "teachers": [teacher.name for teacher in teachers],
    }


class _Labeller:
    """Loads in some threads, runs the networks in this one, and writes in another."""

    def __init__(
        self,
        teachers: Sequence[MaskTeacher],
        writer: SoftMaskWriter,
        views: Sequence[int],
        workers: int,
        skip_bad: bool,
        progress: bool,
    ) -> None:
        self.teachers, self.writer, self.workers = teachers, writer, max(1, workers)
        self.skip_bad, self.progress = skip_bad, progress
        networks = [teacher for teacher in teachers if teacher.facts is not None]
        self.views = {t.name: allowed_views(views, t.facts.size) for t in networks if t.facts}
        for teacher in networks:
            if not self.views[teacher.name]:
                raise ValueError(
                    f"views are {list(views)}, but the input of {teacher.name} is not square: allowed are views 0 to 3."
                )
        self.channels = {len(t.facts.mean) for t in networks if t.facts} or {3}
        self.group = min((teacher.batch for teacher in networks), default=1)
        self.written = 0
        self.skipped: list[str] = []

    def run(self, images: Sequence[ToLabel], total: int) -> None:
        bar = tqdm(
            total=total,
            initial=total - len(images),
            unit="image",
            desc="Labelling",
            disable=not self.progress,
        )
        with bar, ThreadPoolExecutor(self.workers) as loaders, ThreadPoolExecutor(1) as writers:
            writing: deque[Future] = deque()
            try:
                for group in self._groups(images, loaders):
                    for loaded, members in self._said(group):
                        writing.append(writers.submit(self._write, loaded, members))
                    while len(writing) > 2 * self.group:
                        self._written(writing.popleft(), bar)
                while writing:
                    self._written(writing.popleft(), bar)
            except BaseException:
                loaders.shutdown(wait=True, cancel_futures=True)
                writers.shutdown(wait=True, cancel_futures=True)
                raise

    def _written(self, done: Future, bar: tqdm) -> None:
        done.result()
        self.written += 1
        bar.update()

    def _groups(self, images: Sequence[ToLabel], loaders: ThreadPoolExecutor) -> Iterator[list[_Loaded]]:
        """Yield loaded images, as many as a pass takes."""
        waiting: deque[list[Future]] = deque()
        starts = range(0, len(images), self.group)
        for start in starts:
            waiting.append(
                [loaders.submit(self._load, image) for image in images[start : start + self.group]]
            )
            while len(waiting) > _AHEAD or (waiting and start == starts[-1]):
                loaded = [future.result() for future in waiting.popleft()]
                yield [found for found in loaded if found is not None]

    def _load(self, image: ToLabel) -> _Loaded | None:
        try:
            pictures = {count: read_picture(image.path, count) for count in self.channels}
        except BadPictureError as error:
            if not self.skip_bad:
                raise BadPictureError(f"{error} Leave it out with --skip-bad.") from error
            self.skipped.append(str(error))
            logger.warning("Skipped: %s", error)
            return None
        inputs = {}
        for teacher in self.teachers:
            if teacher.facts is not None and _input_of(teacher) not in inputs:
                inputs[_input_of(teacher)] = prepared(teacher.facts, pictures)
        picture = next(iter(pictures.values()))
        return _Loaded(image, (picture.shape[0], picture.shape[1]), inputs, look_of(picture))

    def _said(self, group: list[_Loaded]) -> Iterator[tuple[_Loaded, dict[str, torch.Tensor]]]:
        """Yield every image of a group with what its teachers say, ``(V, K, h, w)`` each."""
        said: list[dict[str, torch.Tensor]] = [{} for _ in group]
        names_of = [set(heard(self.teachers, loaded.image.key)) for loaded in group]
        for teacher in self.teachers:
            rows = [row for row, names in enumerate(names_of) if teacher.name in names]
            if teacher.predict is None or not rows:
                continue
            batch = torch.stack([group[row].inputs[_input_of(teacher)] for row in rows])
            found = teacher.probabilities(batch, self.views[teacher.name])
            for place, row in enumerate(rows):
                said[row][teacher.name] = found[:, place]
        yield from zip(group, said, strict=True)

    def _write(self, loaded: _Loaded, said: dict[str, torch.Tensor]) -> None:
        image, size = loaded.image, loaded.size
        names = heard(self.teachers, image.key)
        maps = {t.name: t.maps.read(image.path, size) for t in self.teachers if t.maps and t.name in names}
        probability = _mean(said, maps, size)
        self.writer.write(
            image.key,
            image.name,
            probability,
            certainty(probability),
            disagreement(_members(said, maps)),
            names,
            any(image.key in t.trained_on for t in self.teachers if t.name in names),
            loaded.look,
        )


def _input_of(teacher: MaskTeacher) -> Any:
    """What teachers share whose inputs are equal."""
    assert teacher.facts is not None
    return teacher.facts.size, teacher.facts.mean, teacher.facts.std


def _mean(
    said: Mapping[str, torch.Tensor], maps: Mapping[str, torch.Tensor], size: tuple[int, int]
) -> torch.Tensor:
    """Mean over teachers ``(K, H, W)``; every one counts alike. Equal grids are averaged before they are resized once."""
    by_grid: dict[tuple[int, int], list[torch.Tensor]] = {}
    for found in said.values():
        by_grid.setdefault((found.shape[-2], found.shape[-1]), []).append(found.mean(0))
    total = sum(maps.values(), torch.zeros(()))
    for members in by_grid.values():
        joined = torch.stack(members).sum(0)
        total = total + F.interpolate(joined[None], size, mode="bilinear", align_corners=False)[0]
    # interpolation may leave [0, 1] by a rounding error
    return (total / (len(said) + len(maps))).clamp(0, 1)


def _members(said: Mapping[str, torch.Tensor], maps: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What is compared for the disagreement, on one grid: teachers; of a single one its views."""
    if len(said) + len(maps) == 1:
        return next(iter(said.values())) if said else next(iter(maps.values()))[None]
    members = [*(found.mean(0) for found in said.values()), *maps.values()]
    grid = members[0].shape[-2:]
    return torch.stack(
        [
            member
            if member.shape[-2:] == grid
            else F.interpolate(member[None], grid, mode="bilinear", align_corners=False, antialias=True)[0]
            for member in members
        ]
    )
