"""From a posted document to a Service and its secrets: OSCAR's rules of reading, defaults and normalisation.

Contract sections 0, 3 and 9 say what clients send; everything they send is accepted, and what is wrong is named with
its place. The secrets are split off here, so a Service never carries one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.service import (
    DEFAULT_PROVIDER,
    Batch,
    Expose,
    RetryPolicy,
    Service,
    StorageIO,
    Synchronous,
)
from tidemill_common.errors import InvalidInputError
from tidemill_common.fdl.providers import BUCKET_KINDS, kind_of, provider_definitions, provider_name
from tidemill_common.fdl.reading import Field
from tidemill_common.quantity import parse_quantity
from tidemill_common.secrets import PLATFORM, SecretRecord

LOG_LEVELS: Final = ("NOTSET", "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
VISIBILITIES: Final = ("private", "restricted", "public")
KEPT: Final = ("federation", "mount", "volume", "kserve")
"""OSCAR fields that are shown again as they came, and not acted on."""

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,37}[A-Za-z0-9])?", re.ASCII)
_MOST_PORT: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedService:
    """A definition, its secrets apart."""

    service: Service
    secrets: SecretRecord = field(repr=False)
    """Values of `environment.secrets`, and the fields of all providers but `minio.default`."""


def parse_service(document: Mapping[str, Any], *, owner: str, owner_name: str | None = None) -> ParsedService:
    """Read the JSON document that a client posts.

    Args:
        document: The loaded JSON.
        owner: Who defines it: `cluster_admin` or a user's id; what the document says of it does not count.
        owner_name: For the label of that name; None: what the owner's id gives.

    Raises:
        InvalidInputError: A FieldError that says what is wrong, and where.
    """
    root = Field(document)
    root.mapping()
    name = _name(root.child("name"))
    environment = root.child("environment")
    secrets = SecretRecord(
        environment=_variables(environment.child("secrets")),
        providers=provider_definitions(root.child("storage_providers")),
    )
    values = {
        "name": name,
        "owner": owner,
        "variables": _variables(environment.child("variables")),
        "secret_names": tuple(sorted(secrets.environment)),
        "labels": _labels(root, name, owner, owner_name),
        **_general(root),
        **_resources(root),
        **_storage(root, name, secrets),
        **_own(root),
    }
    try:
        return ParsedService(service=Service(**values), secrets=secrets)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise InvalidInputError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _name(name: Field) -> ServiceName:
    text = _required(name)
    if not _NAME.fullmatch(text):
        raise name.error(
            f"{text!r} cannot be a Service's name: "
            "1 to 39 letters, digits, `-` and `_`, first and last a letter or digit"
        )
    if text == PLATFORM:
        raise name.error(f"{text!r} is reserved")
    return ServiceName(text)


def _required(entry: Field) -> str:
    text = entry.text()
    if not text.strip():
        raise entry.error("is required")
    return text


def _general(root: Field) -> dict[str, Any]:
    return {
        "image": _required(root.child("image")).strip(),
        "script": _required(root.child("script")).replace("\r\n", "\n"),
        **{name: root.child(name).text() for name in ("cluster_id", "namespace", "vo", "interlink_node_name")},
        **{name: root.child(name).texts() for name in ("bucket_list", "image_pull_secrets")},
        **{name: root.child(name).boolean() for name in ("alpine", "file_stage_in", "image_prefetch")},
        "visibility": _visibility(root.child("visibility")),
        "allowed_users": tuple(user.strip() for user in root.child("allowed_users").texts() if user.strip()),
        "isolation_level": root.child("isolation_level").text().strip().upper(),
        "log_level": _log_level(root.child("log_level")),
        "annotations": root.child("annotations").loose_texts(),
        "expose": _expose(root.child("expose")),
        "extra": {name: entry.value for name in KEPT if _is_meant(entry := root.child(name))},
    }


def _visibility(entry: Field) -> str:
    text = entry.text().strip().lower() or VISIBILITIES[0]
    if text not in VISIBILITIES:
        raise entry.error(f"must be one of {', '.join(VISIBILITIES)}")
    return text


def _log_level(entry: Field) -> str:
    level = entry.text().strip().upper()
    return level if level in LOG_LEVELS else "INFO"


def _is_meant(entry: Field) -> bool:
    """Clients send maps of empty values for what they do not use."""
    return any(value not in (None, "", [], {}, 0, False) for value in entry.mapping().values())


def _resources(root: Field) -> dict[str, Any]:
    synchronous = root.child("synchronous")
    return {
        "memory": _quantity(root.child("memory")) or "256Mi",
        "cpu": _quantity(root.child("cpu")) or "0.2",
        **{name: _quantity(root.child(name)) for name in ("total_memory", "total_cpu", "ephemeral_storage_request")},
        **{name: root.child(name).boolean() for name in ("enable_gpu", "enable_sgx")},
        "synchronous": Synchronous(
            min_scale=synchronous.child("min_scale").integer(0, least=0),
            max_scale=synchronous.child("max_scale").integer(0, least=0),
        ),
    }


def _quantity(entry: Field) -> str:
    text = entry.loose_text().strip()
    if text:
        try:
            parse_quantity(text)
        except InvalidInputError as error:
            raise entry.error(str(error)) from error
    return text


def _variables(entry: Field) -> dict[str, str]:
    found = entry.loose_texts()
    for name, value in found.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise entry.error(f"{name!r} cannot be an environment variable")
    return found


def _labels(root: Field, name: str, owner: str, owner_name: str | None) -> dict[str, str]:
    shown = owner_name or ("oscar" if owner == "cluster_admin" else owner)
    ours = {
        "oscar_service": name,
        "applicationId": name,
        "queue": f"root.oscar-queue.{name}",
        "oscar.grycap/user-service": "true",
        "owner_name": _label_value(shown),
    }
    if vo := root.child("vo").text():
        ours["vo"] = _label_value(vo.replace("/", "", 1).replace("/", "--").replace(" ", "__").replace(":", "___"))
    return root.child("labels").loose_texts() | ours


def _label_value(text: str) -> str:
    """A value that Kubernetes takes as a label: without accents, blanks as `_`, at most 63 characters."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_.-]", "_", plain)[:63].strip("_.-")


def _expose(block: Field) -> Expose | None:
    """None without a first port: clients send the block with zeros when a Service is not exposed."""
    ports = tuple(item.integer(0, least=0, most=_MOST_PORT) for item in block.child("api_port").items(or_one=True))
    if not ports or ports[0] == 0:
        return None
    return Expose(
        api_port=ports,
        node_port=_node_ports(block.child("nodeport"), len(ports)),
        **{name: block.child(name).integer(0, least=0) for name in ("min_scale", "max_scale", "cpu_threshold")},
        **{name: block.child(name).boolean() for name in ("rewrite_target", "default_command", "set_auth")},
        **{name: block.child(name).text() for name in ("auth_type", "health_path", "probe_mode")},
    )


def _node_ports(entry: Field, count: int) -> tuple[int, ...]:
    ports = tuple(item.integer(0, least=0, most=_MOST_PORT) for item in entry.items(or_one=True))
    if not any(ports):
        return ()
    if len(ports) != count:
        raise entry.error("must have as many ports as api_port")
    return ports


def _storage(root: Field, name: str, secrets: SecretRecord) -> dict[str, Any]:
    inputs = [_storage_io(item, "input", name, secrets) for item in root.child("input").items()]
    outputs = [(item, _storage_io(item, "output", name, secrets)) for item in root.child("output").items()]
    for item, output in outputs:
        _refuse_loop(item, output, inputs)
    return {"input": tuple(inputs), "output": tuple(output for _, output in outputs)}


def _storage_io(entry: Field, side: str, name: str, secrets: SecretRecord) -> StorageIO:
    reference = entry.child("storage_provider")
    provider = provider_name(reference)
    if provider != DEFAULT_PROVIDER and provider not in secrets.providers:
        raise reference.error(f'the StorageProvider "{provider}" is not defined')
    return StorageIO(
        storage_provider=provider,
        path=_path(entry.child("path"), side, name, provider),
        prefix=entry.child("prefix").texts(),
        suffix=entry.child("suffix").texts(),
    )


def _path(entry: Field, side: str, name: str, provider: str) -> str:
    segments = [segment for segment in re.sub(r"^[\s/]+|[\s/]+$", "", entry.text()).split("/") if segment]
    if not segments:
        raise entry.error(f"{side} path cannot be empty")
    if {".", ".."} & set(segments):
        raise entry.error("must not contain `.` or `..` between slashes")
    if any("\0" in segment for segment in segments):
        raise entry.error("must not contain a NUL character")
    if len(segments) == 1 and kind_of(provider) in BUCKET_KINDS:
        segments.insert(0, name)
    return "/".join(segments)


def _refuse_loop(entry: Field, output: StorageIO, inputs: list[StorageIO]) -> None:
    for source in inputs:
        inside = f"{output.path}/".startswith(f"{source.path}/")
        if output.storage_provider == source.storage_provider and inside:
            raise entry.child("path").error(
                f"{output.path} is inside the input folder {source.path}: the Service would start itself for ever"
            )


def _own(root: Field) -> dict[str, Any]:
    """Our own fields, all optional."""
    timeout = root.child("timeout")
    limit = timeout.duration()
    if limit is not None and not limit:
        raise timeout.error("must be more than 0")
    reuse = root.child("reuse")
    batch = root.child("batch")
    return {
        "timeout": limit,
        "retry": _retry(root.child("retry")),
        "priority": root.child("priority").integer(0),
        "slots": root.child("slots").integer(1, least=1, most=256),
        "reuse": reuse.integer(1, least=1) if reuse else None,
        "batch": _batch(batch) if batch else None,
        "resident": root.child("resident").boolean(),
        "schedule": root.child("schedule").text().strip(),
    }


def _retry(block: Field) -> RetryPolicy:
    usual = RetryPolicy()
    backoff, most = block.child("backoff").duration(), block.child("max_backoff").duration()
    codes = block.child("final_exit_codes").items(or_one=True)
    return RetryPolicy(
        attempts=block.child("attempts").integer(usual.attempts, least=1, most=100),
        backoff=usual.backoff if backoff is None else backoff,
        max_backoff=usual.max_backoff if most is None else most,
        final_exit_codes=tuple(code.integer(0, least=0, most=255) for code in codes),
    )


def _batch(block: Field) -> Batch:
    wait = block.child("wait").duration()
    return Batch(size=block.child("size").integer(1, least=1), wait=Batch().wait if wait is None else wait)
