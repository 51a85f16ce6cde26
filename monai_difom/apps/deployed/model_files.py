"""Refuse model files that lead out of their folder, or that are programs of unknown origin, before a runtime opens them."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.parsers import expat

from .optional import require
from .signature import is_signed, key_file

_XML_LIMIT = 100_000_000
# elements of OpenVINO's XML whose attributes a runtime may take for files
_READ = ("net", "data", "layer", "weights")
_NAMES = ("name", "names", "type", "version")
_PATH = re.compile(r"[/\\]|^[A-Za-z]:|\.bin$")


def check_torchscript(file: Path, trusted: bool) -> None:
    """Refuse TorchScript that is not signed by this machine's key; nothing of it is run.

    Args:
        file: ``.ts`` file.
        trusted: the person vouches for it.

    Raises:
        ValueError: it is no TorchScript, or is not signed and not vouched for.
    """
    names = zipfile.ZipFile(file).namelist() if zipfile.is_zipfile(file) else []
    if not any("/code/" in name for name in names):
        raise ValueError(
            f"{file} is no TorchScript file; a pickled network is refused, since it could run code."
        )
    if not trusted and not is_signed(file):
        raise ValueError(
            f"{file} is a program: TorchScript can write files and more, and this one is not signed by this machine's key "
            f"({key_file()}). Take the bundle's weights, ONNX or OpenVINO; or, if you know where it is from, add "
            "--trust-torchscript."
        )


def check_onnx(file: Path) -> None:
    """Refuse an ONNX file whose weights are taken from outside of its folder.

    Raises:
        ValueError: it names such a file, or is no ONNX file.
    """
    onnx = require("onnx")
    try:
        model = onnx.load(str(file), load_external_data=False)
    except Exception as error:  # protobuf has errors of its own
        raise ValueError(f"{file} is not readable ONNX: {type(error).__name__}: {error}") from error
    for tensor in _messages(model, onnx.TensorProto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL and not tensor.external_data:
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        _check_beside(file, location, f"tensor {tensor.name!r}")


def check_openvino(file: Path) -> None:
    """Refuse an OpenVINO model that names other files than the ``.bin`` beside it.

    Raises:
        ValueError: it does, or it is no XML, or XML with entities, which can be made to fill the memory.
    """
    weights = file.with_suffix(".bin")
    if not weights.is_file():
        raise ValueError(f"{file} has no {weights.name} beside it; an OpenVINO model is both files.")
    _check_beside(file, weights.name, "it")
    if file.stat().st_size > _XML_LIMIT:
        raise ValueError(
            f"{file} is larger than {_XML_LIMIT / 1e6:g} MB, which no model's XML is; it is refused."
        )
    parser = expat.ParserCreate()

    def entity(*_: Any) -> None:
        raise ValueError(f"{file} defines entities, which a model's XML does not need; it is refused.")

    def begin(element: str, attributes: dict[str, str]) -> None:
        for name, value in attributes.items():
            if element.lower() in _READ and name not in _NAMES and _PATH.search(value):
                raise ValueError(
                    f"{file} names the file {value[:80]!r} ({element}, {name}); an OpenVINO model reads {weights.name} alone."
                )

    parser.StartDoctypeDeclHandler = entity
    parser.EntityDeclHandler = entity
    parser.StartElementHandler = begin
    try:
        with open(file, "rb") as stream:
            parser.ParseFile(stream)
    except expat.ExpatError as error:
        raise ValueError(f"{file} is not readable OpenVINO: {error}.") from error


def _check_beside(file: Path, location: str, who: str) -> None:
    """Refuse a file that is not in the folder of another one, links followed."""
    folder = file.resolve().parent
    place = (folder / location).resolve() if location and "\0" not in location else folder
    if os.path.isabs(location) or not place.is_file() or not place.is_relative_to(folder):
        raise ValueError(
            f"{file}: {who} takes its weights from {location[:80]!r}, which is not in its folder; it is refused. Export the "
            "model with its weights inside."
        )


def _messages(message: Any, kind: type) -> Iterator[Any]:
    """Every message of a kind in a protobuf message, at any depth; without recursion."""
    waiting = [message]
    while waiting:
        found = waiting.pop()
        if isinstance(found, kind):
            yield found
        for field, value in found.ListFields():
            if field.message_type is not None:
                waiting += list(value) if _is_repeated(value) else [value]


def _is_repeated(value: Any) -> bool:
    return hasattr(value, "__len__") and not hasattr(value, "ListFields")
