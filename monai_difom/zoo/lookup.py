"""Find a teacher of the zoo by its source, and its weights on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .entries import ZOO, ZooEntry


def find_entry(source: str | os.PathLike) -> ZooEntry | None:
    """Return the entry of a hub name, of a native checkpoint's path, or of a local folder named as on the hub."""
    name = Path(source).name
    for entry in ZOO:
        if entry.on_hub and (str(source) == entry.source or name == entry.source.partition("/")[2]):
            return entry
        if not entry.on_hub and not entry.folder and name == entry.source:
            return entry
    return None


def locate(entry: ZooEntry, weights: str | os.PathLike | None = None) -> Path | None:
    """Return where an entry's weights are on this machine, or None.

    Args:
        entry: of `ZOO`.
        weights: folder of weights; looked through beside the caches of the hub and of torch.
    """
    return next(_places(entry, Path(weights) if weights is not None else None), None)


def _places(entry: ZooEntry, weights: Path | None) -> Iterator[Path]:
    if not entry.on_hub:
        files = [Path.home() / ".cache/torch/hub/checkpoints" / entry.source] if not entry.folder else []
        if weights is not None:
            files = [
                weights / entry.folder / entry.source,
                weights / f"{entry.folder}-pretrained" / entry.source,
                *files,
            ]
        yield from (file for file in files if file.is_file() and file.stat().st_size > 0)
        return
    owner, _, name = entry.source.partition("/")
    folders = [weights / name, weights / owner / name] if weights is not None else []
    folders += sorted((hub_cache() / f"models--{owner}--{name}" / "snapshots").glob("*"))
    for folder in folders:
        held = any(
            file.suffix in (".safetensors", ".bin") and file.exists() for file in folder.glob("*model*")
        )
        if held and (folder / "config.json").exists():
            yield folder


def hub_cache() -> Path:
    """Return the folder where the hub's client keeps what it has fetched, as its environment variables say."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]).expanduser() / "hub"
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).expanduser() / "huggingface" / "hub"
