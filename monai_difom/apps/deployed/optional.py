"""Packages that some verbs need: imported where they are used, and named with their extra where they are absent."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

_REASON = {
    "onnx": "ONNX files",
    "openvino": "OpenVINO files",
    "openvino-int8": "8-bit OpenVINO files",
    "cv2": "Videos",
    "gradio": "Pages in the browser",
}
_EXTRA = {"cv2": "video", "gradio": "serve"}


def require(module: str, what: str | None = None) -> ModuleType:
    """Import an optional package.

    Args:
        module: name of the package.
        what: what it is needed for, for the message; the module's own name by default.

    Raises:
        ValueError: the package is absent; says what to install.
    """
    # without it, nncf tells its maker that it was used
    os.environ.setdefault("NNCF_CI", "1")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = what or module
        raise ValueError(
            f"{_REASON.get(name, 'ONNX files')} need the package {module}, which is not installed ({error}). "
            f'Install the extra: pip install "monai-difom[{_EXTRA.get(name, "deploy")}]".'
        ) from error
