"""An adapted teacher that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from .tiny import adaptation, make_data


@pytest.fixture(scope="session")
def polyps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("polyps"))


@pytest.fixture(scope="session")
def adapted(polyps: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folds of one seed."""
    folder = tmp_path_factory.mktemp("adapted")
    adaptation(polyps, folder, folds=2).run()
    return folder
