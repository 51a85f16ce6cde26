"""Whether an exported file computes what the trained network does, measured on real pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..deployed.runners import Runner
from .formats import FORMATS


def measure_parity(
    reference: Runner, exported: Mapping[str, Runner], pictures: Sequence[np.ndarray]
) -> dict[str, dict[str, float]]:
    """Compare probabilities and masks at the size of each picture.

    Args:
        reference: the trained network in PyTorch.
        exported: format -> runner.
        pictures: 8-bit pictures ``(H, W, C)``.

    Returns:
        Format -> ``max`` and ``mean`` difference of the probability, ``dice`` between the masks of all pictures together (1 where
        both are empty), ``pictures``.
    """
    found = {name: {"max": 0.0, "mean": 0.0, "both": 0.0, "sum": 0.0} for name in exported}
    facts = reference.facts
    for picture in pictures:
        expected = reference.probabilities(picture)
        mask = facts.masks(expected)
        for name, runner in exported.items():
            own = runner.probabilities(picture)
            own_mask, difference = facts.masks(own), np.abs(own - expected)
            figures = found[name]
            figures["max"] = max(figures["max"], float(difference.max()))
            figures["mean"] += float(difference.mean()) / len(pictures)
            figures["both"] += float((mask & own_mask).sum())
            figures["sum"] += float(mask.sum() + own_mask.sum())
    return {
        name: {
            "max": f["max"],
            "mean": f["mean"],
            "dice": 2 * f["both"] / f["sum"] if f["sum"] else 1.0,
            "pictures": len(pictures),
        }
        for name, f in found.items()
    }


def parity_table(measured: Mapping[str, Mapping[str, float]]) -> str:
    """Return the figures as a table in Markdown, which a terminal shows as well."""
    lines = [
        "| format          | largest difference | mean difference | Dice of masks |",
        "|-----------------|--------------------|-----------------|---------------|",
    ]
    for name, f in measured.items():
        lines.append(f"| {name:<15} | {f['max']:>18.2e} | {f['mean']:>15.2e} | {f['dice']:>13.5f} |")
    return "\n".join(lines)


def parity_failures(measured: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return one sentence for every figure that is out of its format's tolerance; empty where all are within."""
    failures = []
    for name, f in measured.items():
        allowed = FORMATS[name].tolerance
        if allowed.largest is not None and not f["max"] <= allowed.largest:
            failures.append(
                f"{name}: the largest difference is {f['max']:.2e}, allowed is {allowed.largest:.0e}."
            )
        if not f["mean"] <= allowed.mean:
            failures.append(f"{name}: the mean difference is {f['mean']:.2e}, allowed is {allowed.mean:.0e}.")
        if not f["dice"] >= allowed.dice:
            failures.append(
                f"{name}: the Dice between the masks is {f['dice']:.4f}, allowed is {allowed.dice}."
            )
    return failures
