"""Opens the secret store that the settings name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tidemill_common.errors import InvalidInputError
from tidemill_common.secrets.files import FileSecretStore
from tidemill_common.secrets.records import SecretStore
from tidemill_common.settings import SecretsSettings


@asynccontextmanager
async def open_secrets(settings: SecretsSettings, directory: Path | None) -> AsyncIterator[SecretStore]:
    """The records in `directory`, or in a Kubernetes namespace.

    Raises:
        InvalidInputError: A file that the settings name is not there, or they name no directory.
    """
    if settings.kind == "files":
        if directory is None:
            raise InvalidInputError("secrets_dir is not set, and secrets are files")
        yield FileSecretStore(directory)
        return
    from tidemill_common.secrets.kubernetes import KubernetesAccess, open_kubernetes_secrets  # others need no client

    access = KubernetesAccess(
        server=settings.server.rstrip("/"),
        namespace=settings.namespace or _own_namespace(settings.namespace_file),
        token_file=settings.token_file,
        ca_file=settings.ca_file,
    )
    async with open_kubernetes_secrets(access) as store:
        yield store


def _own_namespace(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError as error:
        raise InvalidInputError(f"secrets.namespace is not set, and this is no pod: {error}") from error
