"""Packages that some verbs need: imported where they are used, and named with their extra where they are absent."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

# package -> what needs it, and the extra that has it; of any other package the exported files, and deploy
_REASON = {
    "openvino": "OpenVINO files",
    "cv2": "Videos",
    "av": "Overlay videos",
    "gradio": "Pages in the browser",
}
_EXTRA = {"cv2": "video", "av": "video", "gradio": "serve"}


def require(module: str, what: str | None = None) -> ModuleType:
    """Import an optional package.

    Args:
        module: name of the package.
        what: what needs it, for the message, such as ``"8-bit OpenVINO files"``.

    Raises:
        ValueError: the package is absent; says what to install.
    """
    # without it, nncf tells its maker that it was used
    os.environ.setdefault("NNCF_CI", "1")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"{what or _REASON.get(module, 'ONNX files')} need the package {module}, which is not installed ({error}). "
            f'Install the extra: pip install "monai-difom[{_EXTRA.get(module, "deploy")}]".'
        ) from error
