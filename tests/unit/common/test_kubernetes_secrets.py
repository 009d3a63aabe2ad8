"""Secret records in Kubernetes: what is written, and what each answer of the API server means."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from tidemill_common.errors import (
    AccessDeniedError,
    InvalidInputError,
    NotFoundError,
    PermanentError,
    ThrottledError,
    TransientError,
    UnavailableError,
)
from tidemill_common.secrets import PLATFORM, FileSecretStore, SecretRecord
from tidemill_common.secrets.kubernetes import KubernetesAccess, KubernetesSecretStore, error_of, manifest, secret_name
from tidemill_common.secrets.opening import open_secrets
from tidemill_common.settings import SecretsSettings

_NOWHERE = KubernetesAccess(
    server="http://127.0.0.1:9", namespace="somewhere", token_file=Path("/nowhere"), ca_file=Path("/nowhere")
)


def test_a_services_secret_carries_its_name_in_a_label() -> None:
    secret = manifest("grey", "jobs", SecretRecord(environment={"A": "1"}))
    assert secret["metadata"] == {
        "name": "tidemill-service-grey",
        "namespace": "jobs",
        "labels": {
            "app.kubernetes.io/managed-by": "tidemill",
            "app.kubernetes.io/component": "secrets",
            "tidemill.io/service": "grey",
        },
    }
    data = secret["data"]
    assert isinstance(data, dict)
    assert json.loads(base64.b64decode(data["record.json"])) == {"environment": {"A": "1"}, "providers": {}}


def test_the_platforms_secret_has_a_name_that_no_service_can_take() -> None:
    assert secret_name(PLATFORM) == "tidemill-platform"
    assert secret_name("x").startswith("tidemill-service-")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, AccessDeniedError),
        (403, AccessDeniedError),
        (404, NotFoundError),
        (409, UnavailableError),
        (413, InvalidInputError),
        (422, InvalidInputError),
        (429, ThrottledError),
        (500, UnavailableError),
        (503, UnavailableError),
        (504, UnavailableError),
    ],
)
def test_an_answer_says_whether_trying_again_can_help(status: int, expected: type[Exception]) -> None:
    assert type(error_of(status, "PATCH secret", {})) is expected


def test_a_throttled_request_says_how_long_to_wait() -> None:
    error = error_of(429, "PATCH secret", {"Retry-After": "7"})
    assert isinstance(error, TransientError)
    assert error.retry_after == timedelta(seconds=7)


@pytest.mark.parametrize("name", ["Grey", "grey_cat", "-grey", "grey-", "../platform", "a/b", ""])
async def test_a_name_that_kubernetes_does_not_take_is_refused_before_it_is_sent(name: str) -> None:
    async with aiohttp.ClientSession() as session:
        store = KubernetesSecretStore(session, _NOWHERE)
        with pytest.raises(InvalidInputError):
            await store.put(name, SecretRecord())
        assert await store.get(name) is None
        await store.remove(name)


async def test_a_missing_token_is_a_refusal_that_names_the_file() -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(AccessDeniedError, match="/nowhere"):
            await KubernetesSecretStore(session, _NOWHERE).get("grey")


async def test_files_are_the_default(tmp_path: Path) -> None:
    async with open_secrets(SecretsSettings(), tmp_path) as store:
        assert isinstance(store, FileSecretStore)


@pytest.mark.parametrize(
    "settings",
    [SecretsSettings(), SecretsSettings(kind="kubernetes"), SecretsSettings(kind="kubernetes", namespace="a")],
)
async def test_settings_that_cannot_work_stop_the_start(settings: SecretsSettings) -> None:
    with pytest.raises(PermanentError):
        async with open_secrets(settings, None):
            pass
