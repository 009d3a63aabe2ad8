"""The contract of SecretStores on files and in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.secret_stores.suite import SecretStoreContract
from tidemill_common.secrets import FileSecretStore, MemorySecretStore, SecretRecord, SecretStore


class TestFiles(SecretStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> SecretStore:
        return FileSecretStore(tmp_path / "secrets")

    async def test_only_this_user_can_read_a_record(self, tmp_path: Path) -> None:
        await FileSecretStore(tmp_path / "secrets").put("grey", SecretRecord())
        assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "secrets" / "grey.json").stat().st_mode & 0o777 == 0o600


class TestMemory(SecretStoreContract):
    @pytest.fixture
    def store(self) -> SecretStore:
        return MemorySecretStore()
