"""A bundle as its user runs it: in this process, or as a command of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.bundle import ConfigWorkflow, verify_metadata
from PIL import Image

ROOT = Path(__file__).parents[2]


def bundle_workflow(configs: Path, files: list[str], **override: Any) -> ConfigWorkflow:
    """A workflow over configuration files of a bundle, with its metadata and logging."""
    return ConfigWorkflow(
        files,
        meta_file=str(configs / "metadata.json"),
        logging_file=str(configs / "logging.conf"),
        workflow_type=override.pop("workflow_type", "train"),
        run_id=override.pop("run_id", "run"),
        **override,
    )


def command(run_id: str, files: list[str], **override: Any) -> list[str]:
    """The words of `python -m monai.bundle run`."""
    words = [sys.executable, "-m", "monai.bundle", "run", run_id, "--config_file", str(files)]
    for key, value in override.items():
        words += [f"--{key}", str(value)]
    return words


def call(words: list[str]) -> subprocess.CompletedProcess:
    """Run a command with one thread, from the project's root."""
    return subprocess.run(
        words,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def first_cause(error: BaseException) -> str:
    """The message under those that MONAI puts around it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


def bright_corner(folder: Path) -> np.ndarray:
    """Write ``wide.png``, 50 x 70 with a bright corner that tells up from down and left from right; return where it is bright."""
    bright = np.zeros((50, 70), bool)
    bright[:20, 40:] = True
    folder.mkdir()
    Image.fromarray(np.repeat(bright[..., None] * np.uint8(255), 3, 2)).save(folder / "wide.png")
    return bright


def check_metadata(bundle: Path, shared: Path, folder: Path) -> None:
    """Validate a bundle's metadata against the zoo's schema, a copy of which lies in the shared folder."""
    schema = folder / "schema.json"
    schema.write_bytes((shared / "schema" / "meta_schema_20240725.json").read_bytes())
    verify_metadata(meta_file=str(bundle / "configs" / "metadata.json"), filepath=str(schema))


def same_scores(expected: Any) -> Any:
    """Return what equals the scores of the same weights, computed in another way or by another program.

    Convolutions of other batches round otherwise in the last digits, and one pixel at a border then falls on the
    other side of a threshold.
    """
    return pytest.approx(expected, abs=1e-3)
