"""A bundle as its user runs it: in this process, or as a command of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

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
