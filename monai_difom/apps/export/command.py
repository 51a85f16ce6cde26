"""``python -m monai_difom export``: a finished run in other formats, or its encoder alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...utils import load_state
from ..deployed.runners import find_bundle
from .encoder import describe_run, export_encoder
from .formats import FORMATS


def run_export(
    run: Path,
    output: Path,
    encoder_only: bool = False,
    module: str | None = None,
    formats: str | None = None,
    trust: Sequence[str] = (),
    **options: Any,
) -> int:
    """Do what ``python -m monai_difom export`` asks for, say what was written, and return the exit code (2: refused).

    Args:
        run: the run's folder; its ``model.pt`` for the encoder; or a bundle.
        output: file to write for the encoder, folder for the formats.
        encoder_only: write the encoder alone.
        module: path of the encoder in the student; ``encoder`` by default.
        formats: names with commas between, see `export_bundle`.
        trust: modules of one's own that the network is built from.
        options: further arguments of `export_bundle`.
    """
    try:
        if encoder_only:
            return _print_encoder(run, output, module)
        find_bundle(run)  # before torch is imported, which takes seconds
        from ...networks.definition import trusting
        from .deployable import export_bundle

        names = [name.strip() for name in (formats or "").split(",") if name.strip()]
        with trusting(trust):
            measured = export_bundle(run, output, names, **options)
    except (ValueError, FileNotFoundError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 2
    from .parity import parity_table

    print(parity_table(measured))
    print(
        f"{output}: {', '.join(measured)}; compared on {next(iter(measured.values()))['pictures']} pictures."
    )
    engines = {FORMATS[name].engine for name in measured}
    if any(f.calibrated and f.engine in engines and f.name not in measured for f in FORMATS.values()):
        print("8 bits were left out: give --calibration DIR with images like those of the training.")
    return 0


def _print_encoder(run: Path, output: Path, module: str | None) -> int:
    file, known = describe_run(run)
    told = export_encoder(load_state(file), output, known, module)
    print(
        f"{output}: {told['module']} of {told.get('student', file)}, {int(told['parameters']):,} parameters."
    )
    for name, teacher in known["teachers"].items():
        print(f"  learned from {name} ({teacher['source']}), licence: {teacher['licence'] or 'not recorded'}")
    print(f"Start another student of the same encoder from it: pretrained={output}")
    return 0
