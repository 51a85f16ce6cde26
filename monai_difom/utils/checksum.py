"""Checksums inside files: of ``torch.save``, in the archive's comment, where torch passes it by; of JSON, as its first value."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_MARK = b"monai_difom sha256 "
_LENGTH = len(_MARK) + 64
# the last record of a zip archive ends with the length of the comment
_END, _END_SIZE = b"PK\x05\x06", 22


# how a JSON file with a checksum begins; the checksum is of all that follows
_CHECK = re.compile(r'\{"check": "([0-9a-f]{8})", ')


class DamagedFileError(ValueError):
    """A file holds other bytes than were written."""


def checked_json(content: Mapping[str, Any]) -> str:
    """Return JSON whose first value, ``check``, is a checksum of the rest; see `read_checked_json`."""
    rest = json.dumps(content)[1:] + "\n"
    return f'{{"check": "{zlib.crc32(rest.encode()):08x}", {rest}'


def read_checked_json(file: Path) -> dict[str, Any]:
    """Read a JSON object, and refuse it where its checksum is of another text; one without a checksum is read as it is.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFileError: it holds other bytes than were written, or is no object.
    """
    try:
        text = file.read_text(encoding="utf-8")
        found = _CHECK.match(text)
        if found is not None and int(found[1], 16) != zlib.crc32(text[found.end() :].encode()):
            raise ValueError("its checksum is of another text")
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
        if content.pop("check", None) is not None and found is None:
            raise ValueError("its checksum is none")
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{file} is damaged: {error}.") from error
    return content


def add_checksum(file: Path) -> None:
    """Put the SHA-256 of a new archive into it."""
    with open(file, "r+b") as stream:
        stream.seek(-2, os.SEEK_END)
        stream.write(struct.pack("<H", _LENGTH) + _MARK)
    digest = _digest(file, file.stat().st_size)
    with open(file, "ab") as stream:
        stream.write(digest)


def check_archive(file: Path) -> None:
    """Refuse an archive of ``torch.save`` with one wrong bit; one without a checksum is checked by the CRCs of its parts.

    Raises:
        DamagedFileError: some bytes are not those that were written.
    """
    size = file.stat().st_size
    with open(file, "rb") as stream:
        stream.seek(max(0, size - _LENGTH))
        comment = stream.read()
        stream.seek(max(0, size - _END_SIZE))
        end = stream.read()
    if comment.startswith(_MARK):
        good = comment[len(_MARK) :] == _digest(file, size - 64)
    else:
        good = end.startswith(_END) and _parts_are_whole(file)
    if not good:
        raise DamagedFileError(
            f"{file} is not a readable weight file: it is damaged, and holds other bytes than were written."
        )


def _digest(file: Path, size: int) -> bytes:
    """Return the SHA-256 of the first bytes of a file, as text."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while size > 0 and (block := stream.read(min(size, 1 << 20))):
            digest.update(block)
            size -= len(block)
    return digest.hexdigest().encode()


def _parts_are_whole(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            for part in archive.infolist():
                with archive.open(part) as stream:
                    while stream.read(1 << 20):
                        pass
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError):
        return False
    return True
