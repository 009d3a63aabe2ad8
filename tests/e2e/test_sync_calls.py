"""`/run` on a whole platform: from zero, on warm Workers, with a deadline, and at the limits."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.embedded import Platform, running_platform, wait_until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """With room for two waiting callers of a Service."""
    directory = tmp_path_factory.mktemp("sync")
    with running_platform(directory, TIDEMILL_GATEWAY_CALLS__WAITING_PER_SERVICE="2") as running:
        yield running


def run(platform: Platform, name: str, token: str, body: bytes = b"", **options: Any) -> httpx.Response:
    """One call."""
    options = {"timeout": 100, **options}
    return platform.api("POST", f"/run/{name}", content=body, headers={"Authorization": f"Bearer {token}"}, **options)


def running(platform: Platform, name: str) -> int:
    """Workers of a Service, as the scheduler tells."""
    view = platform.patiently("GET", "/v1/cluster").json()["scheduler"] or {}
    return int(view.get("services", {}).get(name, {}).get("running", 0))


def test_a_call_starts_the_first_worker(platform: Platform) -> None:
    token = platform.apply({"name": "cold", "script": 'cat "$INPUT_FILE_PATH"', "log_level": "CRITICAL"})
    assert running(platform, "cold") == 0
    answer = run(platform, "cold", token, b"aGVsbG8=")
    assert (answer.status_code, answer.text.strip()) == (200, "hello")


def test_min_scale_keeps_a_worker_warm_before_the_first_call(platform: Platform) -> None:
    token = platform.apply(
        {"name": "warm", "script": "echo hello", "log_level": "CRITICAL", "synchronous": {"min_scale": 1}}
    )
    wait_until(lambda: running(platform, "warm") == 1, "a Worker waits for calls")
    assert run(platform, "warm", token).text.strip() == "hello"
    assert running(platform, "warm") == 1


def test_a_deadline_that_passes_is_504_and_ends_the_invocation(platform: Platform) -> None:
    token = platform.apply({"name": "slow", "script": "sleep 600", "synchronous": {"max_scale": 1}})
    answer = run(platform, "slow", token, params={"timeout": "2"})
    assert answer.status_code == 504
    number = answer.headers["tidemill-invocation-id"]

    def how() -> tuple[object, object]:
        found = platform.patiently("GET", f"/v1/invocations/{number}").json()
        return found.get("phase"), found.get("reason")  # neither before it is projected

    wait_until(lambda: how() == ("Cancelled", "deadline-passed"), "it is cancelled for its deadline", show=how)


def test_more_callers_than_may_wait_are_429_with_retry_after(platform: Platform) -> None:
    token = platform.apply({"name": "narrow", "script": "sleep 600", "synchronous": {"max_scale": 1}})
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(run, platform, "narrow", token, params={"timeout": "25"}) for _ in range(2)]
        wait_until(lambda: len(platform.invocations("narrow")) == 2, "both wait", timeout=20)
        answer = run(platform, "narrow", token)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert {future.result().status_code for future in waiting} == {504}
