"""A hub that is not there is noticed in seconds."""

from __future__ import annotations

import socket
import time

import pytest

from monai_difom.networks.encoders import load_encoder
from monai_difom.networks.hub_access import hub_if_there, reachable
from monai_difom.networks.teachers import ViTTeacher


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a port at which nobody listens, as the hub's."""
    from huggingface_hub import constants

    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return address


def test_a_server_that_listens_is_reachable_and_the_client_is_left_as_it_was(
    closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        with hub_if_there():
            assert not constants.HF_HUB_OFFLINE
    assert not reachable(closed)
    assert not constants.HF_HUB_OFFLINE


def test_published_weights_that_cannot_be_had_are_refused_within_seconds(closed: str) -> None:
    begun = time.perf_counter()
    with pytest.raises(OSError, match="resnet18"):
        load_encoder("resnet18", True, option="pretrained")
    with pytest.raises(OSError, match="hf download"):
        ViTTeacher("facebook/dinov2-base-nowhere")
    assert time.perf_counter() - begun < 30, closed
