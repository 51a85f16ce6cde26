"""The feature store of a bundle: estimate it, build it, verify it, say what is in it."""

from __future__ import annotations

import logging
import os
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F

from .. import __version__
from ..data import Build, FeatureStore, StoreError, ViewDataset, build_shards, define, image_keys
from ..data.feature_store import FORMAT, PICTURE, RAW, image_name, thumbnail
from ..data.feature_store.build import check_free, check_shards
from ..data.feature_store.definition import state_digest
from ..data.feature_store.policies import check_augmentation
from ..data.feature_store.shards import DTYPES, row_bytes
from ..data.feature_store.store import DamagedIndexError, FittedError
from ..targets import TargetPipeline
from ..transforms import allowed_views
from ..utils import locked, look_up, save_tensors
from .distiller import Distiller
from .teacher_images import TeacherImages

logger = logging.getLogger(__name__)
COSINE = {"float32": 0.9999, "float16": 0.999}


class FeatureBuilder:
    """Fills the feature store that a training reads.

    Training images are stored in the views that their augmentation draws among, validation images as they are. What the
    student's grids are is found by one forward pass. Under ``torchrun`` the ranks share the work.

    Args:
        store: the store, of `open_store`; None is refused when something is asked.
        targets: the target pipeline; fitted on the training images as a training would, once for the whole store.
        distiller: student and heads, which say the grids.
        train_loader: loader of a `ViewDataset`.
        val_dataset: validation images, for the collapse monitor and the pictures.
        device: where the teachers run; under ``torchrun`` the rank's own GPU.
        dtype: ``"float16"`` or ``"float32"`` numbers in the store.
        raw: store the teachers' raw maps too (large).
        amp: run the teachers in half precision on a GPU.
        batch_size: images in a batch.
        workers: threads that load images while the teachers run.
        shard_rows: targets in a shard, which is what a kill can lose; by default about 32 MiB.
        progress: show a progress bar.

    Raises:
        ValueError: no such number type.
    """

    def __init__(
        self,
        store: FeatureStore | None,
        targets: TargetPipeline,
        distiller: Distiller,
        train_loader: Any,
        val_dataset: ViewDataset | None = None,
        device: torch.device | str = "cpu",
        dtype: str = "float16",
        raw: bool = False,
        amp: bool = False,
        batch_size: int = 16,
        workers: int = 2,
        shard_rows: int | None = None,
        progress: bool = True,
    ) -> None:
        look_up("feature_dtype", dtype, DTYPES)
        self._store, self.targets, self.distiller, self.loader = store, targets, distiller, train_loader
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.device = torch.device(device)
        if self.device.type == "cuda" and self.world > 1:
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        self.dtype, self.raw = dtype, raw
        self.amp = bool(amp) and self.device.type == "cuda"
        self.batch_size, self.workers, self.shard_rows = batch_size, workers, shard_rows
        self.progress = progress and self.rank == 0
        self.train: ViewDataset = train_loader.dataset
        self.val = val_dataset

    @property
    def store(self) -> FeatureStore:
        """The store.

        Raises:
            StoreError: the configuration names none.
        """
        if self._store is None:
            raise StoreError("no feature store is named: give its folder, --feature_store DIR.")
        return self._store

    @cached_property
    def places(self) -> dict[str, tuple[ViewDataset, int]]:
        """Digest of every image -> where it is loaded from."""
        sets = [self.val, self.train] if self.val is not None else [self.train]
        return {key: (data, i) for data in sets for i, key in enumerate(data.keys or image_keys(data.data))}

    @cached_property
    def image_size(self) -> list[int]:
        """Spatial size of the images."""
        return list(self._image_shape[1:])

    @cached_property
    def _image_shape(self) -> tuple[int, ...]:
        return tuple(self.train.teacher_images(0, [0])[0].shape)

    @cached_property
    def views(self) -> dict[str, list[int]]:
        """Digest of every image -> the views that training or validation reads."""
        drawn = allowed_views(self.train.views, self.image_size)
        return {key: drawn if data is self.train else [0] for key, (data, _) in self.places.items()}

    @cached_property
    def grids(self) -> dict[str, list[int]]:
        """Term -> grid of the student's map."""
        self.distiller.to(self.device).eval()
        with torch.no_grad():
            _, mapped = self.distiller(torch.zeros(1, *self._image_shape, device=self.device))
        grids = {name: list(value.shape[2:]) for name, value in mapped.items()}
        self.targets.check_grids(grids)
        return grids

    def load(self, key: str, views: Sequence[int]) -> list[torch.Tensor]:
        """Return what the teachers see of an image in each view, ``(3, H, W)`` in [0, 1]."""
        data, index = self.places[key]
        return data.teacher_images(index, views)

    @torch.no_grad()
    def compute(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return everything that is stored of a batch ``(B, 3, H, W)``, on the CPU in the types of the store."""
        batch = images.to(self.device)
        with torch.autocast("cuda", torch.float16) if self.amp else nullcontext():
            maps = self.targets.teacher_maps(batch)
        found = self.targets.resampled(maps, self.grids)
        if self.raw:
            found |= {RAW + source: value for source, value in maps.items()}
        stored = {name: _cast(name, value, self.dtype).cpu() for name, value in found.items()}
        return {**stored, PICTURE: thumbnail(batch, batch.ndim - 2).cpu()}

    @cached_property
    def _probe(self) -> dict[str, torch.Tensor]:
        self.targets.to(self.device)
        return self.compute(self.train.teacher_images(0, [0])[0][None])

    def _job(self) -> Build:
        shapes = {name: value.shape[1:] for name, value in self._probe.items()}
        types = {name: value.dtype for name, value in self._probe.items()}
        names = {key: image_name(data.data[index]) for key, (data, index) in self.places.items()}
        size = row_bytes(shapes, types)
        schedule = (self.batch_size, self.workers, self.rank, self.world, self.shard_rows, self.progress)
        return Build(self.store, self.views, names, self.load, self.compute, size, *schedule)

    def _open(self, create: bool) -> None:
        """Take up the fitted targets of the store, or fit them and write the index."""
        store = self.store
        if self.targets.trained:
            raise StoreError(
                "the targets are trained with the student (fuse: learned), so that they change from step to step: they "
                "cannot be stored. Use fuse: pca or concat, or train online (feature_store: null)."
            )
        check_augmentation(self.train.augment, store.policy)
        store.reload()
        if not create or self._has_index():
            try:
                store.fit(self.targets, self.grids, self.image_size)
            except FittedError:
                if not create:
                    raise
                self._fit_again()
            here = {"dtype": self.dtype, "maps": _shapes(self._probe)}
            for field, value in here.items():
                if store.index[field] != value:
                    raise StoreError(
                        f"the feature store {store.folder} differs in {field}: {store.index[field]} in the store, {value} "
                        "here. Give the same feature_dtype, feature_raw and terms, or build another store in another folder."
                    )
            return
        save_tensors(store.targets_file, self._fitted())
        about = {n: {"source": t.source, "licence": t.licence} for n, t in self.targets.teachers.items()}
        index = {
            "format": FORMAT,
            "version": __version__,
            "definition": define(self.targets, self.grids, self.image_size),
            "teachers": about,
            "dtype": self.dtype,
            "maps": _shapes(self._probe),
            "images": {},
            "shards": {},
        }
        store.write_index(index)
        known = store.known_shards()
        if known:
            # of a store whose index was lost or damaged
            store.write_index({**index, "shards": known})
            logger.info("%d shards of %s are of these targets, and kept.", len(known), store.folder)

    def _has_index(self) -> bool:
        """Whether the store has an index; a damaged one is put aside."""
        try:
            return bool(self.store.index)
        except DamagedIndexError as error:
            aside = self.store.index_file.with_name(f"{self.store.index_file.name}.damaged")
            logger.warning("%s It is now %s.", error, aside)
            self.store.index_file.replace(aside)
            return False
        except StoreError:
            if self.store.index_file.exists():
                raise
            return False

    def _fitted(self) -> dict[str, torch.Tensor]:
        """Return the fitted parts of the targets, which are fitted on training images unless they are already."""
        self.targets.to(self.device)
        if not self.targets.fitted:
            logger.info("Fitting the targets on up to %d training images.", self.targets.fit_images)
            # the images are wanted here, not their stored targets
            features, self.train.features = self.train.features, None
            try:
                images = TeacherImages(self.loader, self.device)
                # alone: the other builders wait for this one's index
                logger.info("Targets fitted: %s", self.targets.fit(images, shared=False))
            finally:
                self.train.features = features
        return {name: value.cpu().contiguous() for name, value in self.targets.state_dict().items()}

    def _fit_again(self) -> None:
        """Write the fitted parts of an older store anew, where they come out the same."""
        store, state = self.store, self._fitted()
        if state_digest(state) != store.index["definition"]["fitted"]:
            raise StoreError(
                f"{store.targets_file} is lost, and fitted again the targets are others than those that the shards hold. Bring "
                "the file back, or build another store in another folder."
            )
        save_tensors(store.targets_file, state)

    def build(self) -> dict[str, Any]:
        """Store what is missing, repair what is damaged; may be called again, and by several processes at once.

        Returns:
            ``shards`` written and ``kept``, ``rows`` written, ``seconds``.

        Raises:
            StoreError: the store is of other targets, or the disk is full.
        """
        self.store.folder.mkdir(parents=True, exist_ok=True)
        job = self._job()
        if not self.store.index_file.exists() and not self.store.shard_folder.exists():
            check_free(job.row_bytes * sum(len(views) for views in self.views.values()), self.store.folder)
        with locked(self.store.folder / "locks" / "fit"):
            self._open(create=True)
        report = build_shards(job)
        logger.info(
            "Feature store %s: %d shards written, %d kept, %d targets in %.0f s.",
            self.store.folder,
            *(report[key] for key in ("shards", "kept", "rows", "seconds")),
        )
        return report

    def estimate(self) -> dict[str, Any]:
        """Return what a build would cost: ``images, rows, row_bytes, bytes, free, seconds`` (from a short probe)."""
        job = self._job()
        wanted = [(key, view) for key, views in self.views.items() for view in views]
        if self.store.index_file.exists():
            wanted = [entry for entry in wanted if entry not in self.store.rows]
        batch = torch.stack(
            [image for key, view in wanted[: self.batch_size] for image in self.load(key, [view])]
            or [self.train.teacher_images(0, [0])[0]]
        )
        begun = time.perf_counter()
        self.compute(batch)
        each = (time.perf_counter() - begun) / len(batch)
        folder = next(
            p for p in (self.store.folder.absolute(), *self.store.folder.absolute().parents) if p.exists()
        )
        return {
            "images": len({key for key, _ in wanted}),
            "rows": len(wanted),
            "row_bytes": job.row_bytes,
            "bytes": job.row_bytes * len(wanted),
            "free": shutil.disk_usage(folder).free,
            "seconds": each * len(wanted) / self.world,
        }

    def verify(self, samples: int = 16, seed: int = 0) -> dict[str, Any]:
        """Check every byte, and compare random stored targets with the teachers' own.

        Args:
            samples: how many rows are computed again.
            seed: seed of the choice.

        Returns:
            ``cosine`` (map -> lowest over the samples), ``least`` (what it must reach), ``samples``, ``shards``,
            ``damaged`` (a sentence for each damaged shard), ``ok``.

        Raises:
            StoreError: there is no store, or it is of other targets.
        """
        self._open(create=False)
        damaged = check_shards(self.store, self.progress)
        here = [
            entry
            for entry, (name, _) in self.store.rows.items()
            if entry[0] in self.places and name not in damaged
        ]
        chosen = random.Random(seed).sample(here, min(samples, len(here)))
        names = [name for name in self.store.maps if name != PICTURE]
        lowest: dict[str, float] = {}
        for start in range(0, len(chosen), self.batch_size):
            part = chosen[start : start + self.batch_size]
            live = self.compute(torch.stack([self.load(key, [view])[0] for key, view in part]))
            stored = [self.store.read(key, view, names) for key, view in part]
            for name in names:
                there = torch.stack([row[name] for row in stored]).flatten(1).double()
                cosine = float(F.cosine_similarity(there, live[name].flatten(1).double()).min())
                lowest[name] = min(cosine, lowest.get(name, 1.0))
        least = COSINE[self.dtype]
        good = bool(lowest) and min(lowest.values()) >= least
        return {
            "cosine": lowest,
            "least": least,
            "samples": len(chosen),
            "shards": len(self.store.index["shards"]),
            "damaged": list(damaged.values()),
            "ok": good and not damaged,
        }


def _cast(name: str, value: torch.Tensor, dtype: str) -> torch.Tensor:
    cast = value.to(DTYPES[dtype])
    if not bool(torch.isfinite(cast).all()):
        raise StoreError(
            f"map {name} holds values up to {float(value.abs().max()):.3g}, which {dtype} cannot hold. Set feature_dtype to "
            "float32, or standardise the teachers (targets: standardize: phi_s)."
        )
    return cast


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, list[int]]:
    return {name: list(value.shape[1:]) for name, value in tensors.items()}
