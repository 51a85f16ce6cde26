"""Bundles as their users run them: in this process, or by the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

ROOT = Path(__file__).parents[2]


def workflow(bundle: Path, files: list[str], **override: Any) -> ConfigWorkflow:
    """A bundle's configuration files as a workflow, training by default."""
    return ConfigWorkflow(
        files,
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=str(bundle / "configs" / "logging.conf"),
        workflow_type=override.pop("workflow_type", "train"),
        run_id=override.pop("run_id", "run"),
        **override,
    )


def command(run_id: str, files: list[str], **override: Any) -> list[str]:
    """The words of a `monai.bundle run` command."""
    words = [sys.executable, "-m", "monai.bundle", "run", run_id, "--config_file", str(files)]
    for key, value in override.items():
        words += [f"--{key}", str(value)]
    return words


def call(words: list[str]) -> subprocess.CompletedProcess:
    """Run a command from the project's root on one thread."""
    return subprocess.run(
        words,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
