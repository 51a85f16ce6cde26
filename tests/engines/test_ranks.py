"""Two processes balance like one on the joined batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from .two_ranks import BALANCERS, steps

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "0"]
    run = subprocess.run(
        [*command, "--standalone", "-m", "tests.engines.two_ranks", str(folder)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", BALANCERS)
def test_two_ranks_balance_and_learn_like_one_on_the_joined_batch(ranks: list[dict], name: str) -> None:
    first, second = (rank[name] for rank in ranks)
    alone = steps(name, 0, 1)
    assert torch.equal(first["weights"], second["weights"])
    torch.testing.assert_close(first["weights"], alone["weights"], rtol=1e-4, atol=1e-5)
    # each rank's loss is that of its own images; their mean is that of the joined batch
    torch.testing.assert_close(
        (first["totals"] + second["totals"]) / 2, alone["totals"], rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(first["state"], second["state"])
    torch.testing.assert_close(first["state"], alone["state"], rtol=1e-3, atol=1e-5)
    # the test is about something: the weights move, and the ranks saw different images
    assert name == "published_attention" or (alone["weights"] != 1).any()
    assert not torch.equal(first["totals"], second["totals"])
