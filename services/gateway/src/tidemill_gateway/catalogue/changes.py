"""What an update changes: compared field by field, so that applying the same file twice is no new revision."""

from __future__ import annotations

from typing import Final

from tidemill_common.contracts.service import Service
from tidemill_common.secrets import SecretRecord

_ENVIRONMENT: Final = "environment.secrets"
_PROVIDERS: Final = "storage_providers"


def changed_fields(before: Service | None, after: Service) -> tuple[str, ...]:
    """Sorted names of the fields that differ; without a definition before, those that differ from the defaults."""
    if before is None:
        return tuple(sorted(after.model_fields_set & _different_from_default(after)))
    return tuple(sorted(name for name in Service.model_fields if getattr(before, name) != getattr(after, name)))


def changed_secrets(before: SecretRecord, after: SecretRecord) -> tuple[str, ...]:
    """Which groups of secret values differ; never which value, nor the values."""
    environment = (_ENVIRONMENT,) if before.environment != after.environment else ()
    providers = (_PROVIDERS,) if before.providers != after.providers else ()
    return environment + providers


def _different_from_default(service: Service) -> set[str]:
    return {
        name
        for name, field in Service.model_fields.items()
        if field.is_required() or getattr(service, name) != field.get_default(call_default_factory=True)
    }
