"""A signature in exported TorchScript: that this machine's key, and nobody without it, wrote the program in the file.

A digest beside a file says that the file is whole; whoever makes the file can write it. A signature needs a key: a secret file
that the first export makes in the person's own configuration folder, or that ``$DIFOM_SIGNING_KEY`` names, for machines that are
to believe each other.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from ...utils import atomic_path

SIGNATURE = "extra/signature"
KEY_VARIABLE = "DIFOM_SIGNING_KEY"
# its name is derived from the others when the archive is closed
_DERIVED = ".data/serialization_id"


def key_file() -> Path:
    """Return where the key is, or would be."""
    named = os.environ.get(KEY_VARIABLE)
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(named) if named else Path(folder) / "monai_difom" / "signing.key"


def sign(file: Path) -> bool:
    """Put the signature into a TorchScript file; the first call makes the key.

    Returns:
        False where no key can be made or read; the file stays as it is, and is run with ``--trust-torchscript`` only.
    """
    try:
        key = _key(make=True)
    except OSError:
        return False
    records = archive_records(file)
    write_archive(file, {**records, SIGNATURE: _digest(key, records)})
    return True


def is_signed(file: Path) -> bool:
    """True where a TorchScript file holds the signature of this machine's key over all that is in it; nothing is run."""
    try:
        key, records = _key(make=False), archive_records(file)
    except (OSError, RuntimeError):
        return False
    given = records.pop(SIGNATURE, b"")
    return hmac.compare_digest(given, _digest(key, records))


def _key(make: bool) -> bytes:
    """Return the key.

    Raises:
        OSError: there is none, or it cannot be made.
    """
    file = key_file()
    if make and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as stream:
            stream.write(secrets.token_bytes(32))
    key = file.read_bytes()
    if len(key) < 16:
        raise OSError(f"{file} is no key: it holds {len(key)} bytes.")
    return key


def archive_records(file: Path | io.BytesIO) -> dict[str, bytes]:
    """Return what is in a TorchScript file, read by the reader that runs it."""
    import torch

    reader = torch._C.PyTorchFileReader(file if isinstance(file, io.BytesIO) else str(file))
    return {name: reader.get_record(name) for name in reader.get_all_records()}


def write_archive(file: Path, records: Mapping[str, bytes]) -> None:
    """Write a TorchScript file of these parts; in memory first, since the writer ends the process where the disk is full."""
    import torch

    whole = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(whole)
    for name, content in records.items():
        if name != "version" and not name.startswith(".data/"):  # the writer's own
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    with atomic_path(file) as temporary:
        temporary.write_bytes(whole.getbuffer())


def _digest(key: bytes, records: Mapping[str, bytes]) -> bytes:
    made = hmac.new(key, digestmod=hashlib.sha256)
    for name in sorted(records):
        if name != _DERIVED:
            for part in (name.encode(), records[name]):
                made.update(len(part).to_bytes(8, "little") + part)
    return made.hexdigest().encode()
