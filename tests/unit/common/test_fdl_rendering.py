"""Showing a Service as OSCAR does, so that it can be edited and put back."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tidemill_common.fdl import keep_secrets, parse_service, service_json
from tidemill_common.secrets import S3Credentials, SecretRecord

STORE = S3Credentials(endpoint="http://127.0.0.1:8333", access_key="AK", secret_key="SK")
DOCUMENT = {
    "name": "edge-blur",
    "cluster_id": "lab",
    "image": "docker.io/acme/blur:1",
    "script": "#!/bin/sh\ntrue\n",
    "memory": "512Mi",
    "cpu": "0.5",
    "input": [{"storage_provider": "minio.default", "path": "edge-blur/in"}],
    "output": [{"storage_provider": "minio.default", "path": "edge-blur/out", "suffix": [".png"]}],
    "environment": {"variables": {"K": "v"}, "secrets": {"PASS": "hunter2"}},
}


def shown(document: dict[str, Any], *, owner: str = "cluster_admin") -> dict[str, Any]:
    """What is shown of a posted document."""
    parsed = parse_service(document, owner=owner)
    return service_json(parsed.service, token="f" * 64, store=STORE, providers=parsed.secrets.providers)


def test_a_service_is_shown_as_oscar_shows_it() -> None:
    assert shown(DOCUMENT) == {
        "name": "edge-blur",
        "cluster_id": "lab",
        "memory": "512Mi",
        "cpu": "0.5",
        "total_memory": "",
        "total_cpu": "",
        "ephemeral_storage_request": "",
        "enable_gpu": False,
        "enable_sgx": False,
        "image_prefetch": False,
        "synchronous": {"min_scale": 0, "max_scale": 0},
        "log_level": "INFO",
        "image": "docker.io/acme/blur:1",
        "alpine": False,
        "token": "f" * 64,
        "file_stage_in": False,
        "input": [{"storage_provider": "minio.default", "path": "edge-blur/in"}],
        "output": [{"storage_provider": "minio.default", "path": "edge-blur/out", "suffix": [".png"]}],
        "script": "#!/bin/sh\ntrue\n",
        "expose": {
            "min_scale": 0,
            "max_scale": 0,
            "cpu_threshold": 0,
            "rewrite_target": False,
            "default_command": False,
            "set_auth": False,
            "health_path": "",
        },
        "environment": {"variables": {"K": "v"}, "secrets": {"PASS": ""}},
        "annotations": {},
        "vo": "",
        "labels": {
            "oscar_service": "edge-blur",
            "applicationId": "edge-blur",
            "queue": "root.oscar-queue.edge-blur",
            "oscar.grycap/user-service": "true",
            "owner_name": "oscar",
        },
        "storage_providers": {
            "minio": {
                "default": {
                    "endpoint": "http://127.0.0.1:8333",
                    "verify": True,
                    "access_key": "hidden",
                    "secret_key": "hidden",
                    "region": "us-east-1",
                }
            }
        },
        "owner": "cluster_admin",
        "namespace": "",
        "interlink_node_name": "",
        "visibility": "private",
        "allowed_users": [],
        "isolation_level": "",
        "bucket_list": [],
        "mount": {"storage_provider": "", "path": ""},
        "volume_status": {"enabled": False},
    }


def test_one_port_is_shown_as_a_number_and_several_as_a_list() -> None:
    assert shown(DOCUMENT | {"expose": {"api_port": [8000]}})["expose"]["api_port"] == 8000
    several = shown(DOCUMENT | {"expose": {"api_port": [8000, 9000], "nodePort": [0, 30900]}})["expose"]
    assert (several["api_port"], several["nodePort"]) == ([8000, 9000], [0, 30900])


def test_credentials_of_providers_are_hidden() -> None:
    providers = shown(
        DOCUMENT | {"storage_providers": {"webdav": {"dcache": {"hostname": "h", "login": "u", "password": "p"}}}}
    )["storage_providers"]

    assert providers["webdav"] == {"dcache": {"hostname": "h", "login": "hidden", "password": "hidden"}}


def test_secrets_that_come_back_blank_or_hidden_keep_their_values() -> None:
    old = parse_service(
        DOCUMENT | {"storage_providers": {"s3": {"a": {"access_key": "AK", "secret_key": "SK", "region": "r"}}}},
        owner="u",
    )
    edited = service_json(old.service, token="t", store=STORE, providers=old.secrets.providers)
    edited["environment"]["secrets"]["NEW"] = "n"
    edited["storage_providers"]["s3"]["a"]["region"] = "eu-west-1"

    kept = keep_secrets(parse_service(edited, owner="u").secrets, old.secrets)

    assert kept == SecretRecord(
        environment={"PASS": "hunter2", "NEW": "n"},
        providers={"s3.a": {"access_key": "AK", "secret_key": "SK", "region": "eu-west-1"}},
    )


def test_a_secret_that_was_taken_out_is_gone() -> None:
    assert keep_secrets(SecretRecord(), SecretRecord(environment={"A": "1"})) == SecretRecord()


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
SEGMENT = st.from_regex(r"[a-z0-9][a-z0-9 +%é-]{0,7}[a-z0-9]", fullmatch=True)
SECONDS = st.integers(1, 10**6) | st.floats(0.001, 10**6)
PROVIDERS = {"s3": {"archive.eu": {"access_key": "AK"}}, "webdav": {"dcache": {"hostname": "h"}}}


def storage(side: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Entries of input or output; the two never overlap."""
    entry = st.fixed_dictionaries(
        {"path": st.lists(SEGMENT, min_size=1, max_size=3).map(lambda parts: "/".join([side, *parts]))},
        optional={
            "storage_provider": st.sampled_from(["minio", "MinIO.default", "s3.archive.eu", "webdav.dcache"]),
            "prefix": st.lists(TEXT, max_size=2),
            "suffix": st.lists(TEXT, max_size=2),
        },
    )
    return st.lists(entry, max_size=3)


DOCUMENTS = st.fixed_dictionaries(
    {"name": st.from_regex(r"[a-z0-9][a-z0-9_-]{0,30}[a-z0-9]", fullmatch=True), "image": SEGMENT, "script": SEGMENT},
    optional={
        "cluster_id": TEXT,
        "cpu": st.sampled_from(["", "0.5", 1.0, 2, "100m"]),
        "memory": st.sampled_from([None, "1Gi", "300Mi"]),
        "vo": TEXT,
        "visibility": st.sampled_from(["private", "restricted", "public"]),
        "allowed_users": st.lists(TEXT, max_size=2),
        "isolation_level": st.sampled_from(["user", "SERVICE", ""]),
        "bucket_list": st.lists(SEGMENT, max_size=2),
        "image_pull_secrets": st.lists(SEGMENT, max_size=2),
        "input": storage("in"),
        "output": storage("out"),
        "environment": st.fixed_dictionaries(
            {}, optional={"Variables": st.dictionaries(NAMES, TEXT), "secrets": st.dictionaries(NAMES, TEXT)}
        ),
        "annotations": st.dictionaries(TEXT, TEXT, max_size=2),
        "labels": st.dictionaries(TEXT, TEXT, max_size=2),
        "synchronous": st.fixed_dictionaries({"min_scale": st.integers(0, 3), "max_scale": st.integers(0, 9)}),
        "expose": st.fixed_dictionaries(
            {"api_port": st.integers(0, 65535) | st.lists(st.integers(1, 65535), max_size=3)}
        ),
        "mount": st.fixed_dictionaries({"storage_provider": st.just("minio"), "path": TEXT}),
        "timeout": SECONDS,
        "retry": st.fixed_dictionaries(
            {},
            optional={
                "attempts": st.integers(1, 100),
                "backoff": SECONDS,
                "max_backoff": SECONDS,
                "final_exit_codes": st.lists(st.integers(0, 255), max_size=3),
            },
        ),
        "priority": st.integers(-9, 9),
        "slots": st.integers(1, 256),
        "reuse": st.none() | st.integers(1, 9),
        "batch": st.none() | st.fixed_dictionaries({"size": st.integers(1, 50), "wait": SECONDS}),
        "resident": st.booleans(),
        "schedule": st.sampled_from(["", "*/5 * * * *"]),
    },
)


@given(DOCUMENTS, TEXT)
def test_what_is_shown_parses_to_the_same_service(document: dict[str, Any], owner: str) -> None:
    parsed = parse_service(document | {"storage_providers": PROVIDERS}, owner=owner)
    text = json.dumps(service_json(parsed.service, token="t", store=STORE, providers=parsed.secrets.providers))

    again = parse_service(json.loads(text), owner=owner)

    assert again.service == parsed.service
    assert keep_secrets(again.secrets, parsed.secrets) == parsed.secrets


def test_it_parses_also_without_the_providers_at_hand() -> None:
    parsed = parse_service(
        DOCUMENT
        | {
            "timeout": 90,
            "output": [{"storage_provider": "s3.a", "path": "x/y"}],
            "storage_providers": {"s3": {"a": {}}},
        },
        owner="u",
    )
    document = service_json(parsed.service, token="t", store=STORE)

    assert parse_service(document, owner="u").service == parsed.service
    assert parsed.service.timeout == timedelta(seconds=90)
