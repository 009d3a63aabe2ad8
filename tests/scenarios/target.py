"""The platform that a scenario runs on, and what a user can do with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from tests.clients import every_invocation, own_store
from tidemill_common.storage import ObjectStore

ENDED: Final = frozenset({"Succeeded", "Failed", "Cancelled"})


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where to reach a platform, and what it can run."""

    endpoint: str
    """The gateway's address, without a slash at its end."""
    username: str
    password: str = field(repr=False)
    s3_endpoint: str
    s3_access_key: str
    s3_secret_key: str = field(repr=False)
    image: str = "testbed/busybox:1"
    """With `sh`, `cat`, `ls`, `echo`, `sleep`, `id`, `env`, `wc` and nothing else."""
    isolates: bool = True
    """Scripts run in the image, under the Service's memory limit. False: the process launcher."""
    patience: float = 120
    """Seconds within which anything must happen."""

    def api(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request: as the administrator, unless it brings an Authorization header."""
        bearer = "Authorization" in options.get("headers", {})
        auth = None if bearer else (self.username, self.password)
        options = {"timeout": 60, **options}
        return httpx.request(method, self.endpoint + path, auth=auth, **options)

    def patiently(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The same, again and again while the gateway is away."""
        answer: list[httpx.Response] = []

        def asked() -> bool:
            with contextlib.suppress(httpx.TransportError):
                answer[:] = [self.api(method, path, **options)]
                return answer[0].status_code < 500
            return False

        self.wait(asked, f"{method} {path} is answered", show=lambda: [(one, one.text) for one in answer])
        return answer[0]

    def apply(self, name: str, script: str, **fields: Any) -> str:
        """Create a Service; its token."""
        document = {"name": name, "image": self.image, "cpu": "0.2", "memory": "64Mi", "script": script, **fields}
        answer = self.patiently("POST", "/system/services", json=document)
        assert answer.status_code == 201, answer.text
        return str(self.patiently("GET", f"/system/services/{name}").json()["token"])

    def remove(self, name: str) -> None:
        """Remove a Service."""
        answer = self.patiently("DELETE", f"/system/services/{name}")
        assert answer.status_code == 204, answer.text

    def job(self, name: str, token: str, body: bytes = b"") -> str:
        """Call a Service without waiting; the Invocation's id."""
        answer = self.patiently("POST", f"/job/{name}", content=body, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 201, answer.text
        return str(answer.headers["Tidemill-Invocation-Id"])

    def call(self, name: str, token: str, body: bytes = b"") -> httpx.Response:
        """Call a Service and wait for its answer."""
        headers = {"Authorization": f"Bearer {token}"}
        path = f"/run/{name}?timeout={self.patience:.0f}"
        return self.api("POST", path, content=body, headers=headers, timeout=self.patience + 30)

    def invocation(self, identity: str) -> dict[str, Any]:
        """One Invocation; empty: nothing is known of it yet."""
        answer = self.patiently("GET", f"/v1/invocations/{identity}")
        return dict(answer.json()) if answer.status_code == 200 else {}

    def invocations(self, service: str) -> list[dict[str, Any]]:
        """All Invocations of one Service, page by page."""
        return every_invocation(self.patiently, service)

    def ended(self, identity: str) -> dict[str, Any]:
        """The Invocation, once it has ended."""
        found: dict[str, Any] = {}

        def over() -> bool:
            found.update(self.invocation(identity))
            return found.get("phase") in ENDED

        self.wait(over, f"Invocation {identity} has ended", show=lambda: found)
        return found

    def all_ended(self, service: str, count: int) -> list[dict[str, Any]]:
        """The Invocations of a Service, once there are so many and all have ended."""
        found: list[dict[str, Any]] = []

        def over() -> bool:
            found[:] = self.invocations(service)
            return len(found) >= count and all(row["phase"] in ENDED for row in found)

        self.wait(over, f"{count} Invocations of {service} have ended", show=lambda: (found, self.state(service)))
        return found

    def letter(self, identity: str) -> dict[str, Any]:
        """The dead letter of an Invocation that is dead; it is kept a moment after that is told."""
        path = f"/v1/dead-letters/{identity}"
        self.wait(lambda: self.patiently("GET", path).status_code == 200, f"{path} is there")
        return dict(self.patiently("GET", path).json())

    def state(self, service: str) -> dict[str, Any]:
        """What the scheduler says of a Service."""
        scheduler = self.patiently("GET", "/v1/cluster").json()["scheduler"] or {}
        return dict(scheduler.get("services", {}).get(service, {}))

    def account(self, service: str) -> dict[str, Any]:
        """The account of one Service."""
        rows = self.patiently("GET", "/v1/accounts").json()["items"]
        return next((dict(row) for row in rows if row["service"] == service), {})

    def put(self, path: str, body: bytes) -> None:
        """Store an object, as a user of the object store does."""
        asyncio.run(self._with_store(lambda store: store.put(path, body)))

    def put_all(self, objects: Mapping[str, bytes]) -> None:
        """Store several."""

        async def put(store: ObjectStore) -> None:
            for path, body in objects.items():
                await store.put(path, body)

        asyncio.run(self._with_store(put))

    def get(self, path: str) -> bytes:
        """An object's content."""
        found: bytes = asyncio.run(self._with_store(lambda store: store.get(path)))
        return found

    def list(self, folder: str) -> list[str]:
        """Paths of the objects below a folder."""

        async def listing(store: ObjectStore) -> list[str]:
            return sorted([info.path async for info in store.list(folder) if not info.path.endswith("/")])

        found: list[str] = asyncio.run(self._with_store(listing))
        return found

    def wait(
        self, condition: Callable[[], object], what: str, *, show: Callable[[], object] = lambda: "", every: float = 0.2
    ) -> None:
        """Return when the condition holds; fail saying what did not come true."""
        deadline = time.monotonic() + self.patience
        while not condition():
            assert time.monotonic() < deadline, f"not within {self.patience:.0f} s: {what} {show()}"
            time.sleep(every)

    def store(self) -> AbstractAsyncContextManager[ObjectStore]:
        """The platform's own store."""
        return own_store(self.s3_endpoint, access_key=self.s3_access_key, secret_key=self.s3_secret_key)

    async def _with_store(self, work: Callable[[ObjectStore], Any]) -> Any:
        async with self.store() as store:
            return await work(store)


Scenario = Callable[[Target, str], None]
"""Does something on the platform, with names that begin with the given prefix, and asserts what must come of it."""


def fresh(prefix: str, name: str) -> str:
    """A name that nobody used: scenarios may run again on a platform that stays."""
    return f"{prefix}-{name}-{os.urandom(3).hex()}"
