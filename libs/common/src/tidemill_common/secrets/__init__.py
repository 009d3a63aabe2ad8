"""Where secret values are kept: never on the bus, never in user code's environment unless they are the user's own."""

from __future__ import annotations

from tidemill_common.secrets.files import FileSecretStore
from tidemill_common.secrets.memory import MemorySecretStore
from tidemill_common.secrets.records import PLATFORM, S3Credentials, SecretRecord, SecretStore

__all__ = ["PLATFORM", "FileSecretStore", "MemorySecretStore", "S3Credentials", "SecretRecord", "SecretStore"]
