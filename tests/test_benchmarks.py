"""Benchmarks that take seconds run, and check what they claim besides speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.real_data
def test_the_evaluation_gives_the_numbers_of_the_libraries(shared_data: Path) -> None:
    words = [
        sys.executable,
        "benchmarks/evaluate.py",
        "--data",
        str(shared_data),
        "--images",
        "6",
        "--rounds",
        "1",
    ]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
    }  # the code beside the benchmark, wherever it is installed
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["images"] == 6
    assert result["same_numbers"] is True
    assert result["speedup"] > 0
