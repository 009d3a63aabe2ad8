"""A user's own server behind the gateway: `tidemill up`, a Service with `expose`, requests and WebSockets to it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import psutil
import pytest

from tests.e2e.conftest import Platform, running_platform
from tests.embedded import wait_until
from tidemill.platform.servers import free_port

pytestmark = pytest.mark.e2e

SERVER = '''#!/usr/bin/env python3
"""Tells what it sees; echoes bodies; speaks WebSocket by hand; ends itself when asked."""
import base64, hashlib, http.server, json, os, sys, time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.headers.get("Upgrade") == "websocket":
            return self.websocket()
        if self.path == "/die":
            os._exit(3)
        if self.path == "/stream":
            return self.stream()
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = {"path": self.path, "headers": headers, "environment": dict(os.environ), "pid": os.getpid()}
        self.answer(json.dumps(seen).encode())

    def do_POST(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(b"%d %s" % (len(body), hashlib.sha256(body).hexdigest().encode()))

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for number in range(10**6):
                self.wfile.write(b"4\\r\\ntick\\r\\n")
                time.sleep(0.05)
        except OSError:
            print("the reader left", flush=True)
            self.close_connection = True

    def websocket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        while True:
            first, second = self.rfile.read(2)
            size = second & 127
            if size == 126:
                size = int.from_bytes(self.rfile.read(2), "big")
            mask = self.rfile.read(4)
            data = bytes(byte ^ mask[i % 4] for i, byte in enumerate(self.rfile.read(size)))
            if first & 15 == 8:
                self.wfile.write(bytes([0x88, len(data)]) + data)
                self.close_connection = True
                return
            data = b"echo " + data
            head = bytes([first, len(data)]) if len(data) < 126 else bytes([first, 126]) + len(data).to_bytes(2, "big")
            self.wfile.write(head + data)

    def log_message(self, *args):
        pass


print("listening", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
'''


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform of this module's own."""
    with running_platform(tmp_path_factory.mktemp("e2e-exposed") / "platform") as running:
        yield running


class Client:
    """Talks to one platform."""

    def __init__(self, platform: Platform) -> None:
        self.endpoint = platform.connection["endpoint"]
        self.admin = (platform.connection["username"], platform.connection["password"])
        self.platform = platform

    def api(self, method: str, path: str, **options: Any) -> httpx.Response:
        """As the admin."""
        return httpx.request(method, self.endpoint + path, auth=self.admin, timeout=30, **options)

    def get(self, name: str, path: str = "/", **options: Any) -> httpx.Response:
        """As anybody."""
        return httpx.get(f"{self.endpoint}/system/services/{name}/exposed{path}", timeout=30, **options)

    def state(self, name: str) -> str:
        """The deployment's."""
        return str(self.api("GET", f"/system/services/{name}/deployment").json()["state"])

    def expose(self, name: str, *, script: str = SERVER, **expose: Any) -> dict[str, Any]:
        """A new exposed Service, when it answers."""
        port = expose.pop("api_port", None) or free_port()
        document = {
            "name": name,
            "image": "none",
            "script": script,
            "environment": {"variables": {"COLOUR": "red"}, "secrets": {"KEY": "s3cret"}},
            "expose": {"api_port": port, "min_scale": 1, "max_scale": 1, "health_path": "/", **expose},
        }
        answer = self.api("POST", "/system/services", json=document)
        assert answer.status_code == 201, answer.text
        wait_until(lambda: self.state(name) == "ready", f"{name} is ready", show=self.platform.logs)
        found: dict[str, Any] = self.api("GET", f"/system/services/{name}").json()
        return found


@pytest.fixture(scope="module")
def client(platform: Platform) -> Client:
    """Of the module's platform."""
    return Client(platform)


@pytest.fixture(scope="module")
def plain(client: Client) -> dict[str, Any]:
    """A Service without protection."""
    return client.expose("plain")


def test_a_request_reaches_the_users_server(client: Client, plain: dict[str, Any]) -> None:
    seen = client.get("plain", "/a/b%20c?x=1&y=%2F", headers={"X-Own": "1", "Connection": "X-Hop", "X-Hop": "1"}).json()
    assert seen["path"] == "/a/b%20c?x=1&y=%2F"
    assert seen["headers"]["x-own"] == "1"
    assert "x-hop" not in seen["headers"]
    assert seen["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert seen["headers"]["x-forwarded-prefix"] == "/system/services/plain/exposed"
    assert seen["headers"]["host"] == httpx.URL(client.endpoint).netloc.decode()


def test_the_server_has_the_users_variables_and_secrets_and_no_key_of_the_platform(
    client: Client, plain: dict[str, Any], platform: Platform
) -> None:
    seen = client.get("plain").json()["environment"]
    assert seen["COLOUR"] == "red"
    assert seen["KEY"] == "s3cret"
    assert seen["OSCAR_SERVICE_NAME"] == "plain"
    assert seen["OSCAR_SERVICE_TOKEN"] == plain["token"]
    assert seen["OSCAR_SERVICE_BASE_PATH"] == "/system/services/plain/exposed"
    shown = str(seen)
    assert platform.connection["s3_secret_key"] not in shown
    assert platform.connection["password"] not in shown
    assert not [name for name in seen if name.startswith(("TIDEMILL_SCHEDULER", "TIDEMILL_SUPERVISOR"))]


def test_the_admins_password_is_not_shown_to_user_code(client: Client, plain: dict[str, Any]) -> None:
    seen = client.get("plain", auth=client.admin).json()
    assert "authorization" not in seen["headers"]
    other = client.get("plain", auth=("me", "mine")).json()
    assert other["headers"]["authorization"].startswith("Basic ")


def test_a_large_body_streams_through(client: Client, plain: dict[str, Any]) -> None:
    size = 64 * 1024 * 1024

    def chunks() -> Iterator[bytes]:
        for _ in range(size // 65536):
            yield b"x" * 65536

    gateway = client.platform.children()["gateway"]
    before = gateway.memory_info().rss
    answer = httpx.post(f"{client.endpoint}/system/services/plain/exposed/up", content=chunks(), timeout=120)
    assert answer.text.split()[0] == str(size)
    assert gateway.memory_info().rss - before < size / 2


def test_an_endless_answer_arrives_as_it_is_written_and_ends_with_its_reader(
    client: Client, plain: dict[str, Any]
) -> None:
    with httpx.stream("GET", f"{client.endpoint}/system/services/plain/exposed/stream", timeout=30) as answer:
        assert next(answer.iter_raw()).startswith(b"tick")

    def left() -> bool:
        lines = client.api("GET", "/system/services/plain/deployment/logs").json()["entries"]
        return any(line["message"] == "the reader left" for line in lines)

    wait_until(left, "the server learns that its reader left")


async def test_a_websocket_passes_messages_both_ways_and_its_end(client: Client, plain: dict[str, Any]) -> None:
    async with aiohttp.ClientSession() as session:
        url = f"{client.endpoint}/system/services/plain/exposed/socket".replace("http", "ws", 1)
        async with session.ws_connect(url) as opened:
            await opened.send_str("one")
            assert (await opened.receive(30)).data == "echo one"
            await opened.send_bytes(b"\0\1" * 300)
            assert (await opened.receive(30)).data == b"echo " + b"\0\1" * 300
            await opened.close(code=4001)
            assert opened.close_code == 4001
    await asyncio.sleep(0)


def test_with_rewrite_target_the_server_sees_the_whole_path(client: Client) -> None:
    client.expose("whole", rewrite_target=True)
    assert client.get("whole", "/x?y=1").json()["path"] == "/system/services/whole/exposed/x?y=1"


def test_basic_protection_asks_for_the_service_and_its_token(client: Client) -> None:
    service = client.expose("locked", set_auth=True)
    refused = client.get("locked")
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Basic realm="locked"')
    assert client.get("locked", auth=("locked", "wrong")).status_code == 401
    assert client.get("locked", auth=("locked", service["token"])).status_code == 200


def test_forward_protection_takes_a_token_and_keeps_it_in_a_cookie(client: Client) -> None:
    service = client.expose("forwarded", set_auth=True, auth_type="forward")
    assert client.get("forwarded").status_code == 401
    assert client.get("forwarded", headers={"Authorization": f"Bearer {service['token']}"}).status_code == 200
    with httpx.Client(base_url=client.endpoint, timeout=30) as browser:
        base = "/system/services/forwarded/exposed/"
        assert browser.get(f"{base}?token={service['token']}").status_code == 200
        assert browser.get(base).status_code == 200
    asked = f"{client.endpoint}/system/services/forwarded/auth"
    assert httpx.get(asked, timeout=30).status_code == 401
    uri = {"X-Forwarded-Uri": f"/system/services/forwarded/exposed/?token={service['token']}"}
    assert httpx.get(asked, headers=uri, timeout=30).status_code == 200


def test_a_server_that_dies_is_started_again(client: Client) -> None:
    client.expose("mortal")
    before = client.get("mortal").json()["pid"]
    assert client.get("mortal", "/die").status_code == 502

    def is_another() -> bool:
        answer = client.get("mortal")
        return answer.status_code == 200 and answer.json()["pid"] != before

    wait_until(is_another, "another server answers", show=client.platform.logs)


def test_stop_start_and_restart(client: Client) -> None:
    client.expose("switched")
    pid = client.get("switched").json()["pid"]
    assert client.api("POST", "/system/services/switched/stop").status_code == 200
    wait_until(lambda: client.state("switched") == "stopped", "it is stopped", show=client.platform.logs)
    assert not psutil.pid_exists(pid)
    refused = client.get("switched")
    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    client.api("POST", "/system/services/switched/start")
    wait_until(lambda: client.state("switched") == "ready", "it runs again", show=client.platform.logs)
    pid = client.get("switched").json()["pid"]
    shown = client.api("POST", "/system/services/switched/restart").json()
    assert shown["resource_kind"] == "exposed_service"

    def is_another() -> bool:
        answer = client.get("switched")
        return answer.status_code == 200 and answer.json()["pid"] != pid

    wait_until(is_another, "it was restarted", show=client.platform.logs)


def test_logs_are_told_with_and_without_times(client: Client, plain: dict[str, Any]) -> None:
    answer = client.api("GET", "/system/services/plain/deployment/logs?timestamps=true&tailLines=1000").json()
    assert answer["available"] is True
    assert answer["entries"][0]["message"] == "listening"
    assert answer["entries"][0]["timestamp"].endswith("Z")
    assert "timestamp" not in client.api("GET", "/system/services/plain/deployment/logs").json()["entries"][0]


def test_a_removed_service_leaves_no_process(client: Client) -> None:
    client.expose("brief")
    pid = client.get("brief").json()["pid"]
    assert client.api("DELETE", "/system/services/brief").status_code == 204
    wait_until(lambda: not psutil.pid_exists(pid), "its process is gone", show=client.platform.logs)
    assert client.get("brief").status_code == 404


def test_what_the_process_launcher_cannot_do_is_said(client: Client) -> None:
    document = {
        "name": "imaged",
        "image": "none",
        "script": "true",
        "expose": {"api_port": free_port(), "default_command": True},
    }
    assert client.api("POST", "/system/services", json=document).status_code == 201
    wait_until(lambda: client.state("imaged") == "failed", "it is failed", show=client.platform.logs)
    assert "needs the image" in client.api("GET", "/system/services/imaged/deployment").json()["reason"]


def test_a_server_survives_kill_9_of_the_scheduler(client: Client, plain: dict[str, Any], platform: Platform) -> None:
    pid = client.get("plain").json()["pid"]
    scheduler = platform.children()["scheduler"]
    os.kill(scheduler.pid, signal.SIGKILL)
    assert client.get("plain").json()["pid"] == pid
    wait_until(
        lambda: (found := platform.children().get("scheduler")) is not None and found.pid != scheduler.pid,
        "there is another scheduler",
    )
    client.api("POST", "/system/services/plain/stop")
    wait_until(lambda: not psutil.pid_exists(pid), "the new scheduler adopted it, and ends it", show=platform.logs)
    client.api("POST", "/system/services/plain/start")
    wait_until(lambda: client.get("plain").status_code == 200, "it answers again", show=platform.logs)


def test_the_platform_stops_with_all_servers(tmp_path: Path) -> None:
    with running_platform(tmp_path / "platform") as platform:
        client = Client(platform)
        client.expose("last")
        pid = client.get("last").json()["pid"]
        platform.stop()
        assert not psutil.pid_exists(pid)
