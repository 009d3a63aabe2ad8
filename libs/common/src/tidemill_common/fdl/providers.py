"""Storage providers as FDL names them: `<kind>.<id>`, and the blocks that define them."""

from __future__ import annotations

from typing import Final

from tidemill_common.contracts.service import DEFAULT_PROVIDER
from tidemill_common.fdl.reading import Field

KINDS: Final = ("minio", "s3", "webdav", "rucio", "onedata", "dcache")
BUCKET_KINDS: Final = ("minio", "s3")
"""Their paths begin with a bucket."""
HIDDEN: Final = "hidden"
"""What OSCAR shows in place of a credential."""
PUBLIC_FIELDS: Final = frozenset(
    (
        *("endpoint", "region", "verify", "hostname", "oneprovider_host", "space", "host", "account", "rse"),
        *("auth_host", "oidc_audience", "token_endpoint", "client_id", "scopes"),
    )
)
"""Fields of a provider that may be shown; all others are credentials."""


def kind_of(provider: str) -> str:
    """`webdav` of `webdav.dcache`."""
    return provider.partition(".")[0]


def provider_name(field: Field) -> str:
    """A provider reference in canonical form: kind in lower case, id `default` when absent; empty: `minio.default`."""
    kind, _, identity = field.text().strip().partition(".")
    if not kind and not identity:
        return DEFAULT_PROVIDER
    if kind.lower() not in KINDS:
        raise field.error(f"unknown storage kind {kind!r} (known: {', '.join(KINDS)})")
    return f"{kind.lower()}.{identity or 'default'}"


def provider_definitions(block: Field) -> dict[str, dict[str, object]]:
    """`storage_providers` as `<kind>.<id>` -> fields; without `minio.default`, which is the platform's."""
    found = {
        f"{kind}.{identity}": _fields(definition)
        for kind in KINDS
        for identity, definition in block.child(kind).fields().items()
        if definition
    }
    found.pop(DEFAULT_PROVIDER, None)
    return found


def _fields(definition: Field) -> dict[str, object]:
    plain = {key.lower(): field for key, field in definition.fields().items() if field}
    return {key: _value(field) for key, field in plain.items()}


def _value(field: Field) -> object:
    if isinstance(field.value, bool | int | float):
        return field.value
    return list(field.texts()) if isinstance(field.value, list | tuple) else field.text()
