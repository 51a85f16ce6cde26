"""The model hub, asked once whether it is there: without a network its client tries for more than a minute."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from urllib.parse import urlparse

_SECONDS = 3.0


@contextmanager
def hub_if_there() -> Iterator[None]:
    """Within the context the hub's client looks into its own cache alone, where the hub cannot be reached."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not reachable(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@lru_cache(maxsize=8)
def reachable(endpoint: str) -> bool:
    """Return whether a server answers within seconds; behind a proxy nobody can tell, and the answer is yes.

    Args:
        endpoint: address, such as ``https://example.org``.
    """
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    address = urlparse(endpoint)
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        with socket.create_connection((address.hostname or "", port), timeout=_SECONDS):
            return True
    except OSError:
        return False
