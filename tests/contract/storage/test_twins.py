"""The stores that need no server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.storage.suite import ObjectStoreContract
from tidemill_common.storage.local import LocalObjectStore
from tidemill_common.storage.memory import MemoryObjectStore


class TestMemoryObjectStore(ObjectStoreContract):
    @pytest.fixture
    def store(self) -> MemoryObjectStore:
        return MemoryObjectStore("data")


class TestLocalObjectStore(ObjectStoreContract):
    name_may_be_folder = False

    @pytest.fixture
    def store(self, tmp_path_factory: pytest.TempPathFactory) -> LocalObjectStore:
        root: Path = tmp_path_factory.mktemp("provider")
        (root / "data").mkdir()
        return LocalObjectStore(root)
