"""Secret records as files, mode 0600, in a directory of mode 0700."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from tidemill_common.secrets.records import SecretRecord


class FileSecretStore:
    """Records as files below one directory that only this user can enter."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def get(self, name: str) -> SecretRecord | None:
        """The record, or None."""
        try:
            text = await asyncio.to_thread(self._path(name).read_bytes)
        except FileNotFoundError:
            return None
        return SecretRecord.model_validate_json(text)

    async def put(self, name: str, record: SecretRecord) -> None:
        """Write it whole or not at all."""
        await asyncio.to_thread(self._write, name, record.model_dump_json().encode())

    async def remove(self, name: str) -> None:
        """Forget it."""
        await asyncio.to_thread(self._path(name).unlink, missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.json"

    def _write(self, name: str, body: bytes) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        scratch = self._directory / f".{name}.{os.getpid()}"
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._path(name))
