"""Where secret values are kept: never on the bus, never in user code's environment unless they are the user's own.

A record per Service (its `environment.secrets` and the credentials of its providers) and one named `platform`
(the platform's own store). This is the port; the adapters are `files`, `kubernetes` and, for tests, `memory`.
"""

from __future__ import annotations

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
