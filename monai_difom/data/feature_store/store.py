"""Targets of (image, view), computed once: what a store holds, how it is read, and when it is refused.

A folder with ``store.json`` (what the targets are, which shard holds which images), ``targets.safetensors`` (the fitted
standardisers and fusion) and ``shards/`` (see `shards`). Built by `build`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ...targets import TargetPipeline
from ...utils import atomic_path, load_state
from ...utils.checksum import checked_json, read_checked_json
from .definition import define, differences, short, state_digest
from .images import thumbnail
from .policies import check_policy, policies_sentence
from .shards import DamagedShardError, Entry, Shard, StoreError

FORMAT = 1
PICTURE = "picture"  # tensor with a small copy of what the teachers saw
RAW = "raw:"  # prefix of raw teacher maps
# grey levels: another decoder or resize filter rounds differently, another geometry shows more
_TOLERANCE = 2


# what the index has, and of which kind
_INDEX = {
    "format": int,
    "version": str,
    "definition": dict,
    "teachers": dict,
    "dtype": str,
    "maps": dict,
    "images": dict,
    "shards": dict,
}
_REPAIR = (
    "Bring the file back, or run `python -m monai_difom features build`, which fits the targets again and keeps the shards where "
    "that gives the same."
)


class DamagedIndexError(StoreError):
    """``store.json`` is damaged."""


class FittedError(StoreError):
    """``targets.safetensors`` is absent, damaged or another one."""


class FeatureStore:
    """Reads stored targets, memory-mapped, from any number of processes.

    Nothing is opened before it is needed: a store may be named before it is built, and a copy that goes to a loader
    worker opens its own files.

    Attributes:
        active: whether data sets read their items' targets from it; the trainer switches it off in phases that weigh none.

    Args:
        folder: folder of the store.
        policy: ``"views"`` or ``"frozen"``; see `policies`.

    Raises:
        StoreError: the policy reads no store.
    """

    def __init__(self, folder: str | os.PathLike, policy: str = "views") -> None:
        self.folder = Path(folder)
        self.policy = check_policy(policy)
        self.active = True
        self._shards: dict[str, Shard] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "policy": self.policy, "active": self.active, "_shards": {}}

    @property
    def index_file(self) -> Path:
        """The JSON file that says what the store holds."""
        return self.folder / "store.json"

    @property
    def targets_file(self) -> Path:
        """The fitted parts of the target pipeline."""
        return self.folder / "targets.safetensors"

    @property
    def shard_folder(self) -> Path:
        """Folder of the shards."""
        return self.folder / "shards"

    def reload(self) -> None:
        """Forget what was read of the index; the next use reads it anew."""
        for name in ("index", "rows", "targets_digest"):
            self.__dict__.pop(name, None)

    @cached_property
    def index(self) -> dict[str, Any]:
        """Content of the index: ``format, version, definition, teachers, dtype, maps, images, shards``."""
        if not self.index_file.is_file():
            raise StoreError(
                f"there is no feature store at {self.folder}. Build it first: `python -m monai_difom features build` with "
                "the same options, or the bundle's run id `features`."
            )
        try:
            index = read_checked_json(self.index_file)
            if isinstance(index.get("format"), int) and index["format"] != FORMAT:
                raise StoreError(
                    f"{self.folder} has format {index['format']}; this version reads format {FORMAT}. Build the store anew in "
                    "another folder."
                )
            if index.keys() != _INDEX.keys():
                raise ValueError(f"it has {', '.join(index)} in place of {', '.join(_INDEX)}")
            wrong = [name for name, kind in _INDEX.items() if not isinstance(index[name], kind)]
            if wrong:
                raise ValueError(f"{', '.join(wrong)} cannot be read")
        except StoreError:
            raise
        except ValueError as error:
            raise DamagedIndexError(
                f"{self.index_file} is no index of a feature store: it is damaged ({error}). `python -m monai_difom features "
                "build` with the options of the store makes it anew, and keeps every shard that is whole."
            ) from error
        return index

    def write_index(self, index: Mapping[str, Any]) -> None:
        """Write the index, with a checksum, and read it anew from then on."""
        with atomic_path(self.index_file) as temporary:
            temporary.write_text(checked_json(index), encoding="utf-8")
        self.reload()

    @cached_property
    def targets_digest(self) -> str:
        """Digest of what the targets are, which every shard carries."""
        return hashlib.sha256(json.dumps(self.index["definition"], sort_keys=True).encode()).hexdigest()[:16]

    def known_shards(self) -> dict[str, dict[str, Any]]:
        """Return name -> plan of the finished shards that say that they are of these targets, whatever the index says."""
        found = {}
        for notes in sorted(self.shard_folder.glob("*.json")):
            try:
                shard = Shard(self.shard_folder, notes.stem)
            except DamagedShardError:
                continue
            planned = {
                "images": list(dict.fromkeys(key for key, _ in shard.entries)),
                "views": list(dict.fromkeys(view for _, view in shard.entries)),
            }
            if shard.targets == self.targets_digest and planned_entries(planned) == shard.entries:
                found[notes.stem] = planned
        return found

    @cached_property
    def rows(self) -> dict[Entry, tuple[str, int]]:
        """(image digest, view) -> shard and row."""
        found = {}
        for name, shard in self.index["shards"].items():
            for row, entry in enumerate(planned_entries(shard)):
                found[entry] = (name, row)
        return found

    @property
    def views(self) -> list[int]:
        """The views that any image has."""
        return sorted({view for shard in self.index["shards"].values() for view in shard["views"]})

    @property
    def image_size(self) -> list[int]:
        """Spatial size of the images that the teachers were given."""
        return self.index["definition"]["image_size"]

    @property
    def maps(self) -> dict[str, list[int]]:
        """Name of every stored map -> shape of one."""
        return self.index["maps"]

    def shard(self, name: str) -> Shard:
        """Return a finished shard by name.

        Raises:
            DamagedShardError: it is not finished, truncated or not the planned one.
        """
        if name not in self._shards:
            shard = Shard(self.shard_folder, name)
            planned = self.index["shards"].get(name)
            if planned is None or shard.entries != planned_entries(planned):
                raise DamagedShardError(
                    f"shard {shard.file} holds other images than planned. `python -m monai_difom features build` repairs it."
                )
            if shard.targets not in (None, self.targets_digest):
                raise DamagedShardError(
                    f"shard {shard.file} holds other targets. `python -m monai_difom features build` repairs it."
                )
            self._shards[name] = shard
        return self._shards[name]

    def forget(self, name: str) -> None:
        """Close a shard where it is open: its files may have been written anew."""
        self._shards.pop(name, None)

    def read(self, key: str, view: int, names: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
        """Return the stored maps of one image in one view.

        Args:
            key: digest of the image's bytes; see `image_keys`.
            view: number of the view.
            names: names of the wanted maps; by default all but raw ones.

        Returns:
            Name -> ``(C, *grid)`` in the type of the store, as views on the mapped file.

        Raises:
            StoreError: the image or the view was never stored, or its shard is damaged.
        """
        place = self.rows.get((key, view))
        if place is None:
            raise self._never_stored(key, view)
        if names is None:
            names = self._default_names
        return self.shard(place[0]).read(place[1], names)

    @cached_property
    def _default_names(self) -> tuple[str, ...]:
        return tuple(name for name in self.maps if not name.startswith(RAW))

    def _never_stored(self, key: str, view: int) -> StoreError:
        stored = [v for v in self.views if (key, v) in self.rows]
        if stored:
            what = f"view {view} of image {self.index['images'][key]} was never stored; stored are views {stored}"
        else:
            what = f"image {key} was never stored"
        return StoreError(f"{self.folder}: {what}. Build the store with it. {policies_sentence()}")

    def check_picture(self, image: torch.Tensor, stored: torch.Tensor, key: str, view: int) -> None:
        """Refuse an image for the teachers that is not the one the stored maps were made from.

        Args:
            image: ``(3, H, W)``, or a volume ``(C, D, H, W)``, in [0, 1].
            stored: its `thumbnail` when it was stored.
            key: digest of the image's bytes.
            view: number of the view.
        """
        size = list(image.shape[1:])
        if size != self.image_size:
            raise StoreError(f"{self.folder}: image_size is {self.image_size} in the store, {size} here.")
        found = int((thumbnail(image, len(size)).short() - stored.short()).abs().max())
        if found > _TOLERANCE:
            name = self.index["images"].get(key, key)
            raise StoreError(
                f"{self.folder}: what the teachers would see of image {name} in view {view} is not what they saw when it was "
                f"stored (regions differ by up to {found} grey levels): the geometry or the loading of the images has changed. "
                f"{policies_sentence()}"
            )

    def check_items(self, names: Mapping[str, str], views: Iterable[int]) -> None:
        """Refuse images that are not stored, have changed since, or whose shard is not whole.

        Args:
            names: digest of every image -> its name; see `image_keys` and `image_name`.
            views: the views that are needed of each.

        Raises:
            StoreError: says which image or shard it is about.
        """
        old = {name: key for key, name in self.index["images"].items()}
        for key, name in names.items():
            for view in views:
                place = self.rows.get((key, view))
                if place is None and key not in self.index["images"] and name in old:
                    raise StoreError(
                        f"{self.folder}: image {name} has changed: the digest of its bytes is {old[name][:12]} in the store, "
                        f"{key[:12]} here. Bring the stored image back, or add the new one with "
                        "`python -m monai_difom features build`."
                    )
                if place is None:
                    raise self._never_stored(key, view)
                self.shard(place[0])

    def check_definition(self, here: Mapping[str, Any]) -> None:
        """Refuse a store of other targets.

        Args:
            here: the definition that is asked for; see `define`.

        Raises:
            StoreError: names every field that differs, as stored and as asked for.
        """
        lines = differences(self.index["definition"], here)
        if lines:
            raise StoreError(
                "\n".join([f"the feature store {self.folder} holds other targets:", *lines])
                + "\nGo back to what is stored, or build another store in another folder (feature_store)."
            )

    def fit(self, targets: TargetPipeline, grids: Mapping[str, Sequence[int]], size: Sequence[int]) -> None:
        """Give a target pipeline the fitted parts that the maps were made with.

        Args:
            targets: the pipeline.
            grids: term -> grid of the student's map.
            size: spatial size of the image.

        Raises:
            StoreError: the store is of other targets, or its file of fitted parts has changed.
        """
        self.check_definition(define(targets, grids, size, fitted=False))
        targets.load_state_dict(self.fitted_state())

    def fitted_state(self) -> dict[str, torch.Tensor]:
        """Return the fitted parts of the target pipeline.

        Raises:
            FittedError: their file is absent or damaged, or has changed.
        """
        try:
            state = load_state(self.targets_file)
            found = state_digest(state)
        except (FileNotFoundError, ValueError) as error:
            reason = "absent" if isinstance(error, FileNotFoundError) else "damaged"
            raise FittedError(f"{self.targets_file} is {reason}. {_REPAIR}") from error
        stored = self.index["definition"]["fitted"]
        if found != stored:
            raise FittedError(
                f"{self.targets_file} has changed: fitted is {short(stored)} in the index, {short(found)} in the file. "
                f"{_REPAIR}"
            )
        return state


def open_store(folder: str | os.PathLike | None, policy: str = "views") -> FeatureStore | None:
    """Return the store in a folder, or None where the teachers run online (no folder).

    Args:
        folder: folder of the store, which need not exist yet; None or empty for none.
        policy: a name of `POLICIES`.

    Raises:
        StoreError: policy and folder do not go together.
    """
    if folder:
        return FeatureStore(folder, policy)
    if policy != "online":
        check_policy(policy)
        raise StoreError(
            f"feature_policy is {policy!r} but there is no feature_store: give its folder. {policies_sentence()}"
        )
    return None


def planned_entries(shard: Mapping[str, Any]) -> list[Entry]:
    """Return the rows of a planned shard: all views of its first image, of its second, ..."""
    return [(key, view) for key in shard["images"] for view in shard["views"]]
