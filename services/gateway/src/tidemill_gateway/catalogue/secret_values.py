"""Secrets over updates: what a client could not see it cannot send back, so a blank value keeps the stored one.

OSCAR answers GET with empty values and replaces the whole Secret at PUT, so its GET, edit, PUT blanks secrets.
Here a secret that is left out is removed, one that comes back blank is kept.
"""

from __future__ import annotations

from typing import Final

from tidemill_common.fdl import keep_secrets
from tidemill_common.secrets import SecretRecord

TOKEN_VARIABLE: Final = "OSCAR_SERVICE_TOKEN"  # noqa: S105  # the name of a variable


def merged(stored: SecretRecord, sent: SecretRecord, *, token: str) -> SecretRecord:
    """The record after an update that sent `sent`."""
    kept = keep_secrets(sent, stored)
    return SecretRecord(environment=kept.environment | {TOKEN_VARIABLE: token}, providers=kept.providers)
