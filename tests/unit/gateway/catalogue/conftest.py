"""A platform for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.gateway.catalogue.platforms import Platform, make_template, open_platform


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with empty tables."""
    return make_template(tmp_path_factory.mktemp("template") / "gateway.db")


@pytest.fixture
async def platform(tmp_path: Path, template: Path) -> AsyncIterator[Platform]:
    """A platform without Services."""
    async with open_platform(tmp_path, template) as platform:
        yield platform
