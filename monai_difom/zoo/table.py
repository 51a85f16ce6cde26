"""``python -m monai_difom teachers``: the zoo as a table that fits 120 columns, or as JSON."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from .entries import ZOO
from .lookup import locate

ANY = (
    "Any timm model: timm_teacher(name, weights). Any torch or MONAI network: NetworkTeacher(network, taps, weights).",
    "The network of any MONAI Bundle folder: bundle_teacher(folder, taps). Each names its own licence and source.",
)


def list_teachers(weights: str | os.PathLike | None = None, as_json: bool = False) -> int:
    """Print the zoo; the verb ``teachers``.

    Args:
        weights: folder of weights; None takes ``$DIFOM_WEIGHTS``.
        as_json: one JSON list instead of the table.

    Returns:
        The exit code: 0, or 2 when there is no such folder.
    """
    weights = weights or os.environ.get("DIFOM_WEIGHTS") or None
    if weights is not None and not Path(weights).is_dir():
        message = f"there is no folder {str(weights)!r}. Give --weights (or $DIFOM_WEIGHTS) a folder with weight files."
        print(message, file=sys.stderr)
        return 2
    found = [locate(entry, weights) for entry in ZOO]
    if as_json:
        rows = [
            {**asdict(entry), "path": str(path) if path else None}
            for entry, path in zip(ZOO, found, strict=True)
        ]
        print(json.dumps(rows, indent=2))
        return 0
    print("\n".join(_table(found)))
    return 0


def _table(found: list[Path | None]) -> list[str]:
    """Return the lines of the table, at most 120 columns wide."""
    head = ("teacher", "here", "input", "million", "licence", "weights")
    rows = [
        (e.name, "yes" if path else "no", str(e.size), f"{e.parameters:.1f}", e.licence, e.source)
        for e, path in zip(ZOO, found, strict=True)
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head) - 1)]
    right = {2, 3}

    def line(row: tuple[str, ...]) -> str:
        cells = [
            c.rjust(w) if i in right else c.ljust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=False))
        ]
        return "  ".join([*cells, row[-1]])

    lines = [line(head)]
    group = ("", "")
    for entry, row in zip(ZOO, rows, strict=True):
        kind = (entry.family.partition("(")[0], entry.option)
        if kind != group:
            group = kind
            option = f"; a local path goes to --{entry.option}" if entry.option else ""
            lines += ["", f"{kind[0]}{option}"]
        lines += [
            line(row),
            f"  maps: {entry.maps}"
            + ("" if entry.on_hub else f"; from {entry.where.removeprefix('https://')}"),
        ]
    return [
        *lines,
        "",
        *ANY,
        "",
        "maps: name, channels, stride in pixels of the input. million: parameters of the part that runs. Hub models are",
        "fetched by name when first used, or beforehand: hf download <name> --local-dir <folder>. Gated, so that their",
        f"terms must be accepted on their hub page first: {', '.join(_gated())}. A student inherits what the",
        "licence of its teachers says about derived works.",
    ]


def _gated() -> list[str]:
    """Return the families of gated models, as ``facebook/dinov3-*``."""
    return sorted({entry.source.partition("-")[0] + "-*" for entry in ZOO if entry.gated})
