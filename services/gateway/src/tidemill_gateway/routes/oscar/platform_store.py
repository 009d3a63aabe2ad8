"""The platform's own store as clients reach it."""

from __future__ import annotations

from tidemill_common.contracts.service import DEFAULT_PROVIDER
from tidemill_common.secrets import PLATFORM, S3Credentials, SecretStore


class PlatformStore:
    """Reads the platform's record, and shows the endpoint that clients use.

    Args:
        endpoint: The store's URL for clients; None: the one that the platform itself uses.
    """

    def __init__(self, secrets: SecretStore, *, endpoint: str | None) -> None:
        self._secrets = secrets
        self._endpoint = endpoint

    async def credentials(self) -> S3Credentials:
        """Endpoint and keys; empty while no store is configured."""
        record = await self._secrets.get(PLATFORM)
        fields = record.providers.get(DEFAULT_PROVIDER, {}) if record else {}
        credentials = S3Credentials.model_validate(fields)
        return credentials.model_copy(update={"endpoint": self._endpoint}) if self._endpoint else credentials
