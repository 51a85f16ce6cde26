"""What stored targets depend on besides the images, as plain data, and how two such definitions differ."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ...targets import TargetPipeline


def define(
    targets: TargetPipeline,
    grids: Mapping[str, Sequence[int]],
    image_size: Sequence[int],
    fitted: bool = True,
) -> dict[str, Any]:
    """Return all that stored maps depend on besides the images, as plain data.

    Args:
        targets: the `TargetPipeline`.
        grids: term -> grid of the student's map.
        image_size: spatial size of the image before the teachers resize it.
        fitted: with the digest of the fitted parts.
    """
    terms = {
        name: {"source": targets.terms[name].source, "tap": targets.terms[name].tap, "grid": list(grid)}
        for name, grid in grids.items()
    }
    definition = {
        "image_size": [int(side) for side in image_size],
        "teachers": targets.signatures(),
        "targets": targets.definition(),
        "terms": terms,
    }
    return {**definition, "fitted": state_digest(targets.state_dict())} if fitted else definition


def differences(stored: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return one line per field that differs between a store's definition and the one that is asked for, with the cause."""
    ours, wanted = _flat(stored), _flat(here)
    # a store may hold terms that are not asked for, and what is fitted is not known before it is read
    fields = sorted({f for f in ours if not f.startswith("terms.") and f != "fitted"} | set(wanted))
    return [
        f"  {field}: {short(ours.get(field))} in the store, {short(wanted.get(field))} here{_cause(field)}"
        for field in fields
        if ours.get(field) != wanted.get(field)
    ]


def state_digest(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 of a state dict's names and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def short(value: Any) -> str:
    """Return a value of a definition as a person reads it: of a digest the first 12 digits."""
    if value is None:
        return "absent"
    # enough of a digest to tell two apart
    return value[:12] if isinstance(value, str) and len(value) == 64 else str(value)


def _cause(field: str) -> str:
    if field.startswith("teachers."):
        return " (its weights, input size or taps have changed)"
    return " (standardisers and fusion were fitted anew)" if field == "fitted" else ""
