"""A registry on loopback with one image, which it hands out as slowly as a test wants, to whom it knows."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_CHUNK_BYTES: Final = 256 * 1024


@dataclass
class Registry:
    """What it has, and to whom it gives it."""

    user: str | None = None
    """`name:password`; None: everybody."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifest: bytes = b""
    port: int = 0
    go_on: threading.Event = field(default_factory=threading.Event)
    """Until it is set, half of a layer is kept back."""

    @property
    def image(self) -> str:
        """The name of its image; any other name is not there."""
        return f"127.0.0.1:{self.port}/acme/tool:1"

    def fill(self, size_bytes: int) -> None:
        """Make the image: a shell, and bytes that nothing can compress."""
        layer = _layer(size_bytes)
        packed = gzip.compress(layer, compresslevel=1, mtime=0)
        config = {
            "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
        described = json.dumps(config).encode()
        self.blobs = {_digest(packed): packed, _digest(described): described}
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "size": len(described), "digest": _digest(described)},
            "layers": [{"mediaType": _LAYER, "size": len(packed), "digest": _digest(packed)}],
        }
        self.manifest = json.dumps(manifest).encode()

    def knows(self, authorization: str | None) -> bool:
        """Whether these credentials will do."""
        return self.user is None or authorization == f"Basic {base64.b64encode(self.user.encode()).decode()}"


@contextlib.contextmanager
def registry(*, user: str | None = None, size_bytes: int = 4 * 1024**2) -> Iterator[Registry]:
    """A registry that runs for the length of the block."""
    found = Registry(user)
    found.fill(size_bytes)

    class Handler(_Handler):
        registry = found

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, name="registry")
    thread.start()
    try:
        yield found
    finally:
        found.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    registry: Registry
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if not self.registry.knows(self.headers.get("Authorization")):
            self._answer(401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "who are you?"}]}', "application/json")
        elif self.path == "/v2/":
            self._answer(200, b"{}", "application/json")
        elif self.path.startswith("/v2/acme/tool/manifests/"):
            self._answer(200, self.registry.manifest, _MANIFEST)
        elif (blob := self.registry.blobs.get(self.path.rpartition("/")[2])) is not None:
            self._answer(200, blob, "application/octet-stream")
        else:
            self._answer(404, b'{"errors": [{"code": "NAME_UNKNOWN", "message": "no such thing"}]}', "application/json")

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Docker-Content-Digest", _digest(body))
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="test"')
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(OSError):
                self._send(body)

    def _send(self, body: bytes) -> None:
        for start in range(0, len(body), _CHUNK_BYTES):
            if start > len(body) / 2:
                self.registry.go_on.wait()
            self.wfile.write(body[start : start + _CHUNK_BYTES])


def _layer(size_bytes: int) -> bytes:
    file = io.BytesIO()
    busybox = Path(str(shutil.which("busybox"))).read_bytes()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, body in (("bin/sh", busybox), ("ballast", os.urandom(size_bytes))):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(body), 0o755
            tar.addfile(member, io.BytesIO(body))
    return file.getvalue()


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"
