"""Fills a feature store: plans the shards, claims one after the other, computes and writes it.

Any number of builders may work on one store: ranks of one job, or commands that know nothing of each other. The plan is
made under a lock and only grows; a shard is built by whoever holds its lock, and a lock dies with its holder.
"""

from __future__ import annotations

import errno
import shutil
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ...utils import locked
from .shards import DamagedShardError, Entry, StoreError, remove_shard, sync_folder, write_shard
from .store import FeatureStore, planned_entries

SHARD_BYTES = 32 * 2**20
_AHEAD = 2  # batches that are loaded while the teachers run
_TURNS = 8  # a second turn is needed only where another builder has changed the plan


@dataclass
class Build:
    """What a builder needs to know.

    Args:
        store: the store; its index exists.
        views: digest of every wanted image -> its wanted views.
        names: digest of every wanted image -> its name.
        load: ``load(digest, views)`` -> the teachers' image ``(3, H, W)`` of each view.
        compute: batch ``(B, 3, H, W)`` -> name -> ``(B, ...)`` on the CPU, in the types of the store.
        row_bytes: bytes of one row.
        batch_size: images in a batch.
        workers: threads that load images while the teachers run.
        rank: number of this builder, from 0.
        world: number of builders that share the work.
        shard_rows: rows of a shard; by default about 32 MiB, from 8 to 1024 rows.
        progress: show a progress bar.
    """

    store: FeatureStore
    views: Mapping[str, Sequence[int]]
    names: Mapping[str, str]
    load: Callable[[str, Sequence[int]], list[torch.Tensor]]
    compute: Callable[[torch.Tensor], dict[str, torch.Tensor]]
    row_bytes: int
    batch_size: int = 16
    workers: int = 2
    rank: int = 0
    world: int = 1
    shard_rows: int | None = None
    progress: bool = True


@dataclass
class _Claimed:
    """A shard that this builder holds the lock of."""

    name: str
    entries: list[Entry]
    lock: ExitStack
    parts: list[dict[str, torch.Tensor]] = field(default_factory=list)


def plan(build: Build) -> list[str]:
    """Add the wanted images that no shard is planned for, and return the names of all shards with wanted images.

    Unfinished shards with images that are not at hand, which nobody works on, are planned anew without them.
    """
    store = build.store
    with locked(store.folder / "locks" / "index"):
        store.reload()
        index = store.index
        for name, shard in list(index["shards"].items()):
            if not set(shard["images"]) <= set(build.views) and not is_finished(store, name):
                with locked(store.folder / "locks" / name, wait=False) as mine:
                    if mine:
                        remove_shard(store.shard_folder, name)
                        del index["shards"][name]
        known: dict[str, set[int]] = defaultdict(set)
        for shard in index["shards"].values():
            for key in shard["images"]:
                known[key].update(shard["views"])
        missing: dict[tuple[int, ...], list[str]] = defaultdict(list)
        for key, views in build.views.items():
            lacking = tuple(view for view in views if view not in known[key])
            if lacking:
                missing[lacking].append(key)
        number = 1 + max((int(name) for name in index["shards"]), default=-1)
        for lacking, keys in missing.items():
            step = max(1, (build.shard_rows or _rows_of_a_shard(build.row_bytes)) // len(lacking))
            for start in range(0, len(keys), step):
                index["shards"][f"{number:06d}"] = {
                    "images": keys[start : start + step],
                    "views": list(lacking),
                }
                number += 1
        index["images"].update(build.names)
        store.write_index(index)
    wanted = set(build.views)
    return [name for name, shard in store.index["shards"].items() if wanted & set(shard["images"])]


def _rows_of_a_shard(row_bytes: int) -> int:
    return min(max(SHARD_BYTES // max(row_bytes, 1), 8), 1024)


def is_finished(store: FeatureStore, name: str, deep: bool = False) -> bool:
    """Return whether a shard is there, of the written size and, when ``deep``, with every byte as written."""
    store.forget(name)
    try:
        shard = store.shard(name)
        if deep:
            shard.check()
    except DamagedShardError:
        store.forget(name)
        return False
    return True


def check_space(build: Build, names: Sequence[str]) -> None:
    """Refuse to start where the disk has no room for the shards that are left.

    Raises:
        StoreError: says how much is missing.
    """
    left = [name for name in names if not is_finished(build.store, name)]
    check_free(_bytes(build, left), build.store.folder)


def check_free(needed: int, folder: Path) -> None:
    """Refuse to start where the disk has no room for so many bytes.

    Raises:
        StoreError: says how much is missing.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError(
            f"no space for the feature store at {folder}: {size_of(needed)} are needed, {size_of(free)} are free, "
            f"{size_of(needed - free)} are missing. Free them, choose another folder, fewer views or float16."
        )


def check_shards(store: FeatureStore, progress: bool = True) -> dict[str, str]:
    """Read every byte of a store; return the damaged shards, each with what is wrong with it."""
    damaged = {}
    for name in tqdm(store.index["shards"], "Checking shards", disable=not progress):
        store.forget(name)
        try:
            store.shard(name).check()
        except DamagedShardError as error:
            damaged[name] = str(error)
    return damaged


def _bytes(build: Build, names: Sequence[str]) -> int:
    rows = sum(len(planned_entries(build.store.index["shards"][name])) for name in names)
    return int(rows * (build.row_bytes + 64) + 4096 * len(names))


def size_of(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def build_shards(build: Build) -> dict[str, Any]:
    """Build what is missing or damaged, and wait for what others are building.

    Returns:
        ``shards`` written and ``kept``, ``rows`` written, ``seconds``.

    Raises:
        StoreError: the disk is full; what was written stays valid.
    """
    report: dict[str, Any] = {"shards": 0, "rows": 0, "seconds": 0.0}
    for turn in range(_TURNS):
        names = plan(build)
        if turn and all(is_finished(build.store, name) for name in names):
            return {**report, "kept": len(names) - report["shards"]}
        check_space(build, names)
        done = _Builder(build, names, deep=turn == 0).run()
        report = {key: report[key] + done[key] for key in report}
    raise StoreError(
        f"the feature store {build.store.folder} is not complete after {_TURNS} turns: other builders keep changing its plan. "
        "Run the command again when they are done."
    )


class _Builder:
    def __init__(self, build: Build, names: list[str], deep: bool) -> None:
        self.build, self.store, self.deep = build, build.store, deep
        # one's own first, then what the others have not come to yet
        own = [name for i, name in enumerate(names) if i % build.world == build.rank]
        self.own = set(own)
        self.names = own + [name for name in names if name not in self.own]
        self.busy: list[str] = []
        self.open: list[_Claimed] = []
        self.written: list[str] = []
        self.rows = 0
        self.seen = (0, 0)
        self.planned: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        begun = time.perf_counter()
        total = sum(len(planned_entries(self.store.index["shards"][name])) for name in self.names)
        self.bar = tqdm(total=total, desc="Teachers", unit="image", disable=not self.build.progress)
        try:
            self._build(self.names, wait=False)
            # nothing is held any more: to wait for another builder cannot block it
            for name in list(self.busy):
                self._build([name], wait=True)
        finally:
            for claimed in self.open:
                claimed.lock.close()
            self.bar.close()
        return {
            "shards": len(self.written),
            "rows": self.rows,
            "seconds": time.perf_counter() - begun,
        }

    def _claims(self, names: Sequence[str], wait: bool) -> Iterator[_Claimed]:
        for name in names:
            lock = ExitStack()
            if not lock.enter_context(locked(self.store.folder / "locks" / name, wait)):
                self.busy.append(name)
                continue
            claimed = _Claimed(name, planned_entries(self.store.index["shards"][name]), lock)
            self.open.append(claimed)
            deep = self.deep and name in self.own and not wait
            if not self._still_planned(name) or is_finished(self.store, name, deep):
                self._close(claimed)
                self.bar.update(len(claimed.entries))
                continue
            remove_shard(self.store.shard_folder, name)
            if {key for key, _ in claimed.entries} <= set(self.build.views):
                yield claimed
            else:  # a damaged shard with images that are not at hand: the next turn plans it without them
                self._close(claimed)

    def _still_planned(self, name: str) -> bool:
        """Whether no other builder has planned this shard's images anew."""
        state = self.store.index_file.stat()
        if (state.st_mtime_ns, state.st_ino) != self.seen:
            fresh = FeatureStore(self.store.folder, self.store.policy).index["shards"]
            self.planned, self.seen = fresh, (state.st_mtime_ns, state.st_ino)
        return self.planned.get(name) == self.store.index["shards"][name]

    def _close(self, claimed: _Claimed) -> None:
        claimed.lock.close()
        self.open.remove(claimed)

    def _build(self, names: Sequence[str], wait: bool) -> None:
        size = self.build.batch_size
        with ThreadPoolExecutor(self.build.workers) as loaders, ThreadPoolExecutor(1) as writer:
            loading: deque[tuple[_Claimed, list[Future]]] = deque()
            self.writing: deque[Future] = deque()
            try:
                for claimed in self._claims(names, wait):
                    for start in range(0, len(claimed.entries), size):
                        chunk = claimed.entries[start : start + size]
                        groups = ((k, [view for _, view in g]) for k, g in groupby(chunk, lambda e: e[0]))
                        loading.append((claimed, [loaders.submit(self.build.load, *g) for g in groups]))
                        while len(loading) > _AHEAD:
                            self._compute(*loading.popleft(), writer)
                while loading:
                    self._compute(*loading.popleft(), writer)
                while self.writing:
                    self.writing.popleft().result()
            except BaseException:
                loaders.shutdown(wait=True, cancel_futures=True)
                raise

    def _compute(self, claimed: _Claimed, images: list[Future], writer: ThreadPoolExecutor) -> None:
        batch = torch.stack([image for future in images for image in future.result()])
        claimed.parts.append(self.build.compute(batch))
        self.bar.update(len(batch))
        if sum(len(next(iter(part.values()))) for part in claimed.parts) == len(claimed.entries):
            self.writing.append(writer.submit(self._write, claimed))
            while len(self.writing) > 2:
                self.writing.popleft().result()

    def _write(self, claimed: _Claimed) -> None:
        tensors = {
            name: torch.cat([part[name] for part in claimed.parts]).contiguous() for name in claimed.parts[0]
        }
        try:
            digest = self.store.targets_digest
            write_shard(self.store.shard_folder, claimed.name, claimed.entries, tensors, digest)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise self._full(error) from error
        sync_folder(self.store.shard_folder)
        claimed.parts.clear()
        self.written.append(claimed.name)
        self.rows += len(claimed.entries)
        self._close(claimed)

    def _full(self, error: Exception) -> StoreError:
        left = [name for name in self.names if not is_finished(self.store, name)]
        return StoreError(
            f"no space left at {self.store.folder} ({error}): {len(left)} of {len(self.names)} shards are missing, "
            f"{size_of(_bytes(self.build, left))}. What is written is valid; free the space and run the same command again."
        )
