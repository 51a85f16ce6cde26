"""The verb ``autolabel``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...networks.definition import trusting
from ...utils import is_main_rank, own_device, start_ranks, stop_ranks
from .label import label_images
from .ranking import TABLE


def run_autolabel(
    teacher: Sequence[Path],
    images: Path,
    output: Path,
    device: str | None = None,
    trust: Sequence[str] = (),
    **options: Any,
) -> int:
    """Do what ``python -m monai_difom autolabel`` asks for; return the exit code: 0, or 2 where something is refused.

    Args:
        teacher: see `label_images`.
        images: see `label_images`.
        output: see `label_images`.
        device: where torch networks run; None takes a GPU where there is one.
        trust: modules that networks may be built from beside the known packages.
        options: further arguments of `label_images`.
    """
    place = torch.device(device) if device else own_device()
    start_ranks(place)
    try:
        main = is_main_rank()
        with trusting(trust):
            found = label_images(teacher, images, output, device=place, **options)
    except (ValueError, FileNotFoundError) as error:
        print(f"autolabel: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(
            f"What is labelled stays in {output}; the same command goes on."
        ) from interrupt
    finally:
        stop_ranks()
    if main:
        _say(found, output)
    return 0


def _say(found: dict[str, Any], output: Path) -> None:
    rate = f", {found['written'] / found['seconds']:.1f} per second" if found["written"] else ""
    print(
        f"{output}: soft masks of {found['images']} images by {len(found['teachers'])} teacher(s), {found['written']} of them "
        f"now{rate}; certainty {found['certainty']:.2f}, disagreement {found['disagreement']:.2f} on average."
    )
    if found["learned"]:
        print(
            f"{found['learned']} of them by teachers that had learned their masks: there they say nothing new."
        )
    if found["skipped"]:
        print(f"{len(found['skipped'])} skipped, see above.")
    print(f"{output / TABLE}: what is least certain, first; {output / 'autolabel.html'} shows it.")
