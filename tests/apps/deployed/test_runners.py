"""Models of several formats in one process, which goes on afterwards as if they had not been there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("exported")

OPENED_AND_CLOSED = """
import faulthandler, gc, signal, subprocess, sys
faulthandler.enable()  # as a server does: it gives the main thread a stack for signals
from monai_difom.apps.deployed.runners import open_runner
first = open_runner(sys.argv[1], "openvino")
second = open_runner(sys.argv[1], "openvino")
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGCHLD, lambda *_: print("a child has ended"))
subprocess.run([sys.executable, "-c", ""], check=True)
"""


def test_a_process_survives_a_signal_after_its_openvino_models_are_closed(exported: Path) -> None:
    words = [sys.executable, "-c", OPENED_AND_CLOSED, str(exported)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "a child has ended\n"), done.stderr
