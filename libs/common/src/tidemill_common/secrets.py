"""Where secret values are kept: never on the bus, never in user code's environment unless they are the user's own.

A record per Service (its `environment.secrets` and the credentials of its providers) and one named `platform`
(the platform's own store). Embedded: files, mode 0600, in a directory of mode 0700.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final, Protocol

from pydantic import BaseModel, ConfigDict, Field

PLATFORM: Final = "platform"
"""Name of the record with the platform's own credentials; no Service can have it (names are checked at create)."""


class S3Credentials(BaseModel):
    """How to reach an S3 store (`minio`, `s3` kinds)."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    endpoint: str | None = None
    """URL with scheme; None: AWS."""
    access_key: str = ""
    secret_key: str = Field(default="", repr=False)
    region: str = "us-east-1"
    verify: bool = True


class SecretRecord(BaseModel):
    """The secrets of one Service, or of the platform."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    environment: dict[str, str] = Field(default_factory=dict, repr=False)
    """For the user's code: `environment.secrets` of the FDL, and OSCAR_SERVICE_TOKEN."""
    providers: dict[str, dict[str, object]] = Field(default_factory=dict, repr=False)
    """For staging alone: `<kind>.<id>` -> the fields of `storage_providers.<kind>.<id>`."""


class SecretStore(Protocol):
    """Keeps secret records by name."""

    async def get(self, name: str) -> SecretRecord | None: ...

    async def put(self, name: str, record: SecretRecord) -> None: ...

    async def remove(self, name: str) -> None:
        """Forget a record; one that is not there is success."""
        ...


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


class MemorySecretStore:
    """The twin for tests."""

    def __init__(self) -> None:
        self.records: dict[str, SecretRecord] = {}

    async def get(self, name: str) -> SecretRecord | None:
        """The record, or None."""
        return self.records.get(name)

    async def put(self, name: str, record: SecretRecord) -> None:
        """Keep it."""
        self.records[name] = record

    async def remove(self, name: str) -> None:
        """Forget it."""
        self.records.pop(name, None)
