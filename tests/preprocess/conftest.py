"""Temporary: the project's conftest will offer this fixture."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    directory = Path(__file__).parents[3] / "shared" / "data"
    if not directory.is_dir():
        pytest.skip(f"{directory} is absent")
    return directory
