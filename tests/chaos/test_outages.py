"""The store answers 503 for a while; uploads come and retries are due while the bridge is down: nothing is lost."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import os
import signal
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.embedded import Platform, names, running_platform, wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

FILES: Final = 10 * int(os.environ.get("TIDEMILL_CHAOS_FILES", "500"))
OUTAGE_SECONDS: Final = float(os.environ.get("TIDEMILL_CHAOS_OUTAGE", "60"))


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """One platform for all outages."""
    with running_platform(tmp_path_factory.mktemp("outages")) as running:
        yield running


class Flaky:
    """An HTTP proxy in front of a store that can answer 503 to everything."""

    def __init__(self, target: str) -> None:
        self.down = False
        self.refused = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if outer.down:
                    outer.refused += 1
                    self.answer(503, {}, b"<Error><Code>ServiceUnavailable</Code></Error>")
                    return
                headers = {key: value for key, value in self.headers.items() if key.lower() != "connection"}
                request = urllib.request.Request(target + self.path, body or None, headers, method=self.command)
                try:
                    with urllib.request.urlopen(request, timeout=30) as answer:
                        self.answer(answer.status, dict(answer.headers), answer.read())
                except urllib.error.HTTPError as error:
                    self.answer(error.code, dict(error.headers), error.read())

            def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                length = headers.get("Content-Length") if self.command == "HEAD" else str(len(body))
                for key, value in headers.items():
                    if key.lower() not in {"content-length", "transfer-encoding", "connection", "date", "server"}:
                        self.send_header(key, value)
                self.send_header("Content-Length", length or "0")
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward  # noqa: N815 (names the server calls)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self.server.shutdown()
        self.server.server_close()


@contextlib.contextmanager
def flaky_store(platform: Platform) -> Iterator[Flaky]:
    """The platform's store behind a proxy; signatures hold because the Host header is passed on."""
    proxy = Flaky(platform.connection["s3_endpoint"])
    try:
        yield proxy
    finally:
        proxy.close()


async def test_a_store_that_answers_503_for_a_while_delays_and_loses_nothing(platform: Platform) -> None:
    count = 30
    with flaky_store(platform) as proxy:
        credentials = {
            "endpoint": proxy.endpoint,
            "access_key": platform.connection["s3_access_key"],
            "secret_key": platform.connection["s3_secret_key"],
            "region": "us-east-1",
            "verify": True,
        }
        definition = {
            "name": "patient",
            "script": 'cp "$INPUT_FILE_PATH" "$TMP_OUTPUT_DIR/"\n',
            "cpu": "0.5",
            "memory": "64Mi",
            "slots": 4,
            "input": [{"storage_provider": "minio.default", "path": "patient/in"}],
            "output": [{"storage_provider": "minio.flaky", "path": "patient-out/done"}],
            "storage_providers": {"minio": {"flaky": credentials}},
            "retry": {"attempts": 100, "backoff": "1s", "max_backoff": "3s"},
        }
        await asyncio.to_thread(platform.apply, definition)
        proxy.down = True
        async with platform.store() as store:
            for name in names(count):
                await store.put(f"patient/in/{name}", name.encode())
            await asyncio.sleep(OUTAGE_SECONDS)
            assert proxy.refused, "nobody tried to store anything during the outage"
            proxy.down = False
            await wait_for(
                lambda: platform.accounts("patient").get("succeeded") == count,
                "all have succeeded",
                timeout=180,
                show=lambda: platform.accounts("patient"),
            )
            stored = [info.path async for info in store.list("patient-out/done/") if not info.path.endswith("/")]
    assert stored == [f"patient-out/done/{name}" for name in names(count)]
    assert platform.accounts("patient")["balanced"] is True


async def test_uploads_made_while_the_bridge_is_down_are_found(platform: Platform) -> None:
    definition = {
        "name": "late",
        "script": "exit 0\n",
        "cpu": "0.5",
        "memory": "64Mi",
        "slots": 4,
        "input": [{"storage_provider": "minio.default", "path": "late/in"}],
    }
    await asyncio.to_thread(platform.apply, definition)
    bridge = platform.pid("storage-bridge")
    os.kill(bridge, signal.SIGSTOP)  # stays down, where kill -9 alone would be answered by a restart at once
    try:
        async with platform.store() as store:
            limit = asyncio.Semaphore(32)

            async def put(name: str) -> None:
                async with limit:
                    await store.put(f"late/in/{name}", b"x")

            await asyncio.gather(*(put(name) for name in names(FILES)))
    finally:
        os.kill(bridge, signal.SIGKILL)
    await wait_for(
        lambda: platform.accounts("late").get("succeeded") == FILES,
        "all have run",
        timeout=60 + FILES / 10,
        show=lambda: platform.accounts("late"),
    )
    runs = Counter(row["input"]["path"] for row in await asyncio.to_thread(platform.invocations, "late"))
    assert len(runs) == FILES
    assert set(runs.values()) == {1}


async def test_retries_that_are_asked_for_while_the_bridge_is_down_run_when_it_is_back(
    platform: Platform, tmp_path: Path
) -> None:
    count = 4
    go, ran = tmp_path / "go", tmp_path / "ran-$(basename $INPUT_FILE_PATH)"
    definition = {
        "name": "again",
        "script": f"while ! test -e {go}; do sleep 0.05; done; test -e {ran} || {{ touch {ran}; exit 1; }}\n",
        "cpu": "0.1",
        "memory": "64Mi",
        "slots": count,
        "input": [{"storage_provider": "minio.default", "path": "again/in"}],
        "retry": {"attempts": 2, "backoff": "0.1s"},
    }
    await asyncio.to_thread(platform.apply, definition)
    async with platform.store() as store:
        await asyncio.gather(*(store.put(f"again/in/{name}", b"x") for name in names(count)))
    await wait_for(lambda: phases(platform) == Counter(Running=count), "all run", show=lambda: phases(platform))
    bridge = platform.pid("storage-bridge")
    os.kill(bridge, signal.SIGSTOP)
    try:
        go.touch()
        await wait_for(
            lambda: phases(platform) == Counter(Pending=count), "all have failed once", show=lambda: phases(platform)
        )
        await asyncio.sleep(1)  # ten times the backoff
        assert phases(platform) == Counter(Pending=count)
    finally:
        os.kill(bridge, signal.SIGKILL)
    await wait_for(
        lambda: phases(platform) == Counter(Succeeded=count), "all have succeeded", show=lambda: phases(platform)
    )
    rows = await asyncio.to_thread(platform.invocations, "again")
    assert {row["attempts"] for row in rows} == {2}
    assert platform.accounts("again")["balanced"] is True


def phases(platform: Platform) -> Counter[str]:
    """How many Invocations of the Service are in each phase."""
    return Counter(row["phase"] for row in platform.invocations("again"))
