"""What stands before every request to the page: who may ask, how much, and an answer that says why not."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

# the page loads nothing from elsewhere, whatever a component asks for
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; connect-src 'self'; worker-src 'self' blob:; frame-ancestors 'none'"
)
_HEADERS = {b"content-security-policy": POLICY.encode(), b"x-content-type-options": b"nosniff"}
# a form around the file
_MARGIN = 100_000


def allowed_hosts(host: str, more: Collection[str] = ()) -> set[str]:
    """Return the names by which a page may be asked for.

    A page of another site can make a browser ask this machine, under that site's name (DNS rebinding) or its own.

    Args:
        host: address that is listened at.
        more: further names, of a proxy or of this machine in its network.

    Returns:
        Names without port. Addresses count as well where ``host`` is not of this machine alone.
    """
    return {name.lower() for name in ("localhost", host, socket.gethostname(), socket.getfqdn(), *more)}


def is_loopback(host: str) -> bool:
    """True where an address is of this machine alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def refusal(headers: dict[str, str], host: str, names: Collection[str]) -> str:
    """Return why a request is refused; empty where it is not.

    Args:
        headers: of the request, names in lower case.
        host: address that is listened at.
        names: of `allowed_hosts`.
    """
    asked = headers.get("host", "")
    try:
        name = (urlsplit(f"//{asked}").hostname or "").lower()
        origin = urlsplit(headers.get("origin", "")) if "origin" in headers else None
    except ValueError:
        return "The headers Host or Origin cannot be read."
    if not (name in names or is_loopback(name) or (_is_address(name) and not is_loopback(host))):
        return (
            f"The page was asked for as {name[:80]!r}; allowed are {', '.join(sorted(names))}. If that is a name of this "
            "machine, add --allow-host with it."
        )
    # the same machine at another port is another site
    if origin is not None and (
        origin.scheme not in ("http", "https") or origin.netloc.lower() != asked.lower()
    ):
        return f"The request comes from a page of {headers['origin'][:80]!r}, which may not use this one."
    return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class _TooLargeError(Exception):
    """More was sent than the limit."""


class Guard:
    """ASGI middleware: checks Host and Origin, counts what is sent, adds the content policy, and answers errors with a reason.

    Args:
        app: what is guarded.
        host: address that is listened at.
        names: of `allowed_hosts`.
        limit: bytes of the largest file.
    """

    def __init__(self, app: Any, host: str, names: Collection[str], limit: int) -> None:
        self.app = app
        self.host = host
        self.names = names
        self.limit = limit

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        reason = refusal(headers, self.host, self.names)
        if reason and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": reason[:100]})
            return
        if reason:
            await _answer(send, 403, reason)
            return
        await self._pass_on(scope, receive, send)

    async def _pass_on(self, scope: Any, receive: Any, send: Any) -> None:
        begun, size = False, 0

        async def received() -> Any:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.limit + _MARGIN:
                raise _TooLargeError
            return message

        async def sent(message: Any) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message.get("headers", []), *_HEADERS.items()]
            await send(message)

        try:
            await self.app(scope, received, sent)
        except _TooLargeError:
            if begun:
                raise
            await _answer(
                send, 413, f"The file is larger than {self.limit / 1e6:g} MB, the limit of this page."
            )
        except Exception as error:  # whatever goes wrong, the visitor is told, and the page goes on
            if begun or scope["type"] != "http":
                raise
            await _answer(send, 500, f"The request failed: {type(error).__name__}: {error}"[:500])


async def _answer(send: Any, status: int, reason: str) -> None:
    body = json.dumps({"detail": reason, "error": reason}).encode()
    headers = [(b"content-type", b"application/json"), *_HEADERS.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
