"""Two processes, on one machine or two, train and balance like one on the joined batch."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ..tiny import make_data
from .two_ranks import BALANCERS, pretrain, run_trainer, steps

pytestmark = pytest.mark.processes


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What two processes found, started as two machines are; `tests/bundles/test_two_ranks.py` has two on one."""
    folder = tmp_path_factory.mktemp("ranks")
    make_data(folder / "data", train=16, test=1)
    meeting = ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{free_port()}", "--rdzv_id", "test"]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nnodes",
        "2",
        "--nproc_per_node",
        "1",
        *meeting,
    ]
    runs = [
        subprocess.Popen(
            [*command, "-m", "tests.engines.two_ranks", str(folder)],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for run in runs:
        said = run.communicate(timeout=300)[1]
        assert run.returncode == 0, said[-3000:]
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("alone")
    make_data(folder / "data", train=16, test=1)
    return run_trainer(folder, 0, 1)


def test_two_processes_train_what_one_does_on_the_joined_batch(
    ranks: list[dict], alone: dict[str, Any]
) -> None:
    first, second = (rank["trainer"] for rank in ranks)
    for name, value in alone["state"].items():
        assert torch.equal(first["state"][name], second["state"][name]), name
        torch.testing.assert_close(first["state"][name], value, rtol=2e-3, atol=2e-5, msg=name)
    for found, expected in zip(first["epochs"], alone["epochs"], strict=True):
        assert found["terms"] == pytest.approx(expected["terms"], rel=1e-3)
        assert found["weights"] == pytest.approx(expected["weights"], rel=1e-3)


def test_what_a_step_leaves_without_a_gradient_has_none_in_any_process(
    ranks: list[dict], alone: dict[str, Any]
) -> None:
    assert [rank["trainer"]["without"] for rank in ranks] == [alone["without"]] * 2
    # the phases differ in it: decoder and second head, then the frozen encoder and the teachers' side
    parts = [
        {name.split(".")[1] + "." + name.split(".")[2] for name in names}
        for names in alone["without"].values()
    ]
    assert {"student.decoder", "student.head", "heads.1"} <= parts[0]
    assert "student.downsample0" not in parts[0]
    assert "student.downsample0" in parts[2]
    assert parts[4] >= {"heads.0", "heads.1"}
    assert not any(name.startswith("student") for name in parts[4])


def test_two_processes_pretrain_like_one_on_the_joined_batch(ranks: list[dict]) -> None:
    alone = pretrain(0, 1)
    first, second = (rank["pretraining"] for rank in ranks)
    for method, expected in alone.items():
        assert first[method]["losses"] == second[method]["losses"]
        for name, value in first[method]["state"].items():
            assert torch.equal(value, second[method]["state"][name]), name
        if method == "mae":  # momentum contrast normalises by batches, which on CPUs are each process's own
            assert first[method]["losses"] == pytest.approx(expected["losses"], rel=1e-4)
            for name, value in expected["state"].items():
                torch.testing.assert_close(
                    first[method]["state"][name], value, rtol=1e-3, atol=2e-5, msg=name
                )
        else:
            assert first[method]["losses"] == pytest.approx(expected["losses"], rel=0.2)


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
