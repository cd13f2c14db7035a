"""Fixtures that several rooms share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real faces, which lie beside the checkout and are never part of it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "300w").is_dir():
        pytest.skip(f"real faces are not at {folder}")
    return folder
