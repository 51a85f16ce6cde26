"""A checksum in files of ``torch.save``: over every byte, in the archive's comment, where torch's own reader passes it by."""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
import zlib
from pathlib import Path

_MARK = b"monai_difom sha256 "
_LENGTH = len(_MARK) + 64
# the last record of a zip archive ends with the length of the comment
_END, _END_SIZE = b"PK\x05\x06", 22


class DamagedFileError(ValueError):
    """A file holds other bytes than were written."""


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
