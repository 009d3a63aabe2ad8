"""A Service as OSCAR shows it (contract, section 1.3), with our own fields only where they differ from the default.

What is written here parses to the same Service, so get, edit and put loses nothing. Secret values are never shown:
they are empty or `hidden`, and `keep_secrets` puts back those that return so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tidemill_common.contracts.service import DEFAULT_PROVIDER, Batch, Expose, RetryPolicy, Service, StorageIO
from tidemill_common.fdl.durations import duration_text
from tidemill_common.fdl.providers import HIDDEN, PUBLIC_FIELDS
from tidemill_common.secrets import S3Credentials, SecretRecord

_AS_IT_IS: Final = (
    *("name", "cluster_id", "memory", "cpu", "total_memory", "total_cpu", "ephemeral_storage_request", "enable_gpu"),
    *("enable_sgx", "image_prefetch", "log_level", "image", "alpine", "file_stage_in", "script", "annotations", "vo"),
    *("labels", "owner", "namespace", "interlink_node_name", "visibility", "isolation_level"),
)
_LISTS: Final = ("allowed_users", "bucket_list")


def service_json(
    service: Service,
    *,
    token: str,
    store: S3Credentials,
    providers: Mapping[str, Mapping[str, object]] | None = None,
) -> dict[str, Any]:
    """The JSON of `GET /system/services/{name}`.

    Args:
        token: The Service's token.
        store: The platform's own store; its endpoint and region are shown, its keys are not.
        providers: Fields of the other providers, as in the Service's SecretRecord; credentials among them are hidden.
    """
    document: dict[str, Any] = {name: getattr(service, name) for name in _AS_IT_IS}
    document |= {name: list(getattr(service, name)) for name in _LISTS}
    document |= {
        "token": token,
        "synchronous": service.synchronous.model_dump(),
        "input": [_storage_io(entry) for entry in service.input],
        "output": [_storage_io(entry) for entry in service.output],
        "expose": _expose(service.expose or Expose()),
        "environment": {"variables": dict(service.variables), "secrets": dict.fromkeys(service.secret_names, "")},
        "storage_providers": _providers(service, store, providers or {}),
        "mount": {"storage_provider": "", "path": ""},
        "volume_status": {"enabled": "volume" in service.extra},
    }
    if service.image_pull_secrets:
        document["image_pull_secrets"] = list(service.image_pull_secrets)
    return document | service.extra | _own(service)


def keep_secrets(new: SecretRecord, old: SecretRecord) -> SecretRecord:
    """`new`, where values that came back blank or `hidden` are those of `old`."""
    providers = {
        name: _kept(fields, old.providers.get(name, {})) if fields else old.providers.get(name, {})
        for name, fields in new.providers.items()
    }
    return SecretRecord(environment=_kept(new.environment, old.environment), providers=providers)


def _kept(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    return {key: old.get(key, value) if value in ("", HIDDEN) else value for key, value in new.items()}


def _storage_io(entry: StorageIO) -> dict[str, Any]:
    document: dict[str, Any] = {"storage_provider": entry.storage_provider, "path": entry.path}
    filters = {"prefix": list(entry.prefix), "suffix": list(entry.suffix)}
    return document | {name: values for name, values in filters.items() if values}


def _expose(expose: Expose) -> dict[str, Any]:
    """Without ports when there are none, and a single one as a number: clients of OSCAR 3 read no arrays (9.1)."""
    document = expose.model_dump(exclude={"api_port", "node_port", "auth_type", "probe_mode"})
    document |= {name: text for name in ("auth_type", "probe_mode") if (text := getattr(expose, name))}
    for name, ports in (("api_port", expose.api_port), ("nodePort", expose.node_port)):
        if ports:
            document[name] = ports[0] if len(ports) == 1 else list(ports)
    return document


def _providers(
    service: Service, store: S3Credentials, providers: Mapping[str, Mapping[str, object]]
) -> dict[str, dict[str, Any]]:
    own = {"endpoint": store.endpoint or "", "verify": store.verify, "region": store.region}
    shown: dict[str, dict[str, Any]] = {
        "minio": {"default": own | {"access_key": HIDDEN, "secret_key": HIDDEN}},
    }
    named: dict[str, Mapping[str, object]] = {entry.storage_provider: {} for entry in (*service.input, *service.output)}
    for name, fields in {**named, **providers}.items():
        if name != DEFAULT_PROVIDER:
            kind, _, identity = name.partition(".")
            visible = {key: value if key in PUBLIC_FIELDS else HIDDEN for key, value in fields.items()}
            shown.setdefault(kind, {})[identity] = visible
    return shown


def _own(service: Service) -> dict[str, Any]:
    usual = Service.model_fields
    document = {
        name: value
        for name in ("priority", "slots", "reuse", "resident", "schedule")
        if (value := getattr(service, name)) != usual[name].default
    }
    if service.timeout is not None:
        document["timeout"] = duration_text(service.timeout)
    if service.batch is not None:
        document["batch"] = _batch(service.batch)
    if service.retry != RetryPolicy():
        document["retry"] = _retry(service.retry)
    return document


def _batch(batch: Batch) -> dict[str, Any]:
    return {"size": batch.size, "wait": duration_text(batch.wait)}


def _retry(retry: RetryPolicy) -> dict[str, Any]:
    return {
        "attempts": retry.attempts,
        "backoff": duration_text(retry.backoff),
        "max_backoff": duration_text(retry.max_backoff),
        "final_exit_codes": list(retry.final_exit_codes),
    }
