"""What "every file once" means, for tests that kill things meanwhile: the pipeline, its files, and the checks.

Two Services: the first writes a file's digest, the second a line about it. The checks ask the platform alone; that they
see a lost or a doubled output is itself tested where they are used.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import httpx

from tidemill_common.errors import TidemillError
from tidemill_common.storage import ObjectStore

FIRST: Final = """#!/bin/sh
set -e
name=$(basename "$INPUT_FILE_PATH")
sha256sum < "$INPUT_FILE_PATH" | cut -d' ' -f1 > "$TMP_OUTPUT_DIR/$name"
"""
SECOND: Final = """#!/bin/sh
set -e
name=$(basename "$INPUT_FILE_PATH")
{ printf 'digest '; cat "$INPUT_FILE_PATH"; } > "$TMP_OUTPUT_DIR/$name"
"""


class Asked(Protocol):
    """A platform that may be away for a while."""

    def patiently(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request, again and again while nobody answers."""
        ...

    def invocations(self, service: str) -> list[dict[str, Any]]:
        """All Invocations of one Service."""
        ...


def service(name: str, script: str, source: str, target: str) -> dict[str, Any]:
    """One stage of the pipeline."""
    return {
        "name": name,
        "script": script,
        "cpu": "0.3",
        "memory": "64Mi",
        "input": [{"storage_provider": "minio.default", "path": source}],
        "output": [{"storage_provider": "minio.default", "path": target}],
        "slots": 2,
        "synchronous": {"max_scale": 2},
        "retry": {"attempts": 10, "backoff": "1s", "max_backoff": "5s"},
    }


def content(name: str) -> bytes:
    """What is in a file."""
    return f"content of {name}\n".encode() * 20


def expected(wanted: Iterable[str]) -> dict[str, bytes]:
    """What the pipeline makes of these files."""
    return {name: b"digest %s\n" % hashlib.sha256(content(name)).hexdigest().encode() for name in wanted}


async def upload(store: ObjectStore, bucket: str, wanted: Sequence[str], *, pause: float) -> None:
    """Upload each file once, with a pause after each.

    While the store is down, look whether the object has arrived before sending it again.
    """
    for name in wanted:
        path, body = f"{bucket}/in/{name}", content(name)
        while True:
            try:
                if await store.head(path) is None:
                    await store.put(path, body)
                break
            except TidemillError:
                await asyncio.sleep(0.2)
        await asyncio.sleep(pause)


async def outputs(store: ObjectStore, prefix: str) -> dict[str, bytes]:
    """Name → content below a prefix; a store that was just killed is asked again, for at most a minute."""
    deadline = time.monotonic() + 60
    while True:
        try:
            found = [info.path async for info in store.list(prefix) if not info.path.endswith("/")]
            return {path.removeprefix(prefix): await store.get(path) for path in found}
        except TidemillError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


def account(platform: Asked, name: str) -> Mapping[str, Any]:
    """The account of one Service; empty: there is none."""
    rows = platform.patiently("GET", "/v1/accounts").json()["items"]
    return next((dict(row) for row in rows if row["service"] == name), {})


def is_settled(platform: Asked, count: int, *services: str) -> bool:
    """Whether nothing waits or runs and each Service was asked for every file."""
    for name in services:
        found = account(platform, name)
        if not found or found["requested"] < count or found["pending"] or found["running"]:
            return False
    return True


def verify_events(platform: Asked, bucket: str) -> None:
    """No output was stored with two contents, according to the log of all that arrived."""
    etags: dict[str, set[str]] = defaultdict(set)
    start: int | None = 1
    while start:
        page = platform.patiently("GET", f"/v1/events?bucket={bucket}&limit=500&start={start}").json()
        for event in page["items"]:
            artifact = event.get("artifact")
            if artifact and "removed" not in event["type"] and artifact.get("etag"):
                etags[artifact["path"]].add(artifact["etag"])
        start = page["next"]
    assert etags, "the log of Events is empty"
    changed = {path: found for path, found in etags.items() if len(found) > 1}
    assert not changed, f"stored with several contents: {changed}"


def verify_runs(platform: Asked, name: str, count: int) -> None:
    """The Service ran once for each input, and the accounts balance."""
    rows = platform.invocations(name)
    runs = Counter(row["input"]["path"] for row in rows)
    doubled = {path: runs[path] for path in runs if runs[path] > 1}
    assert not doubled, f"run more than once: {doubled}"
    phases = Counter(row["phase"] for row in rows)
    assert phases == {"Succeeded": count}, phases
    found = account(platform, name)
    assert found["balanced"] is True, found
    assert found["requested"] == found["succeeded"] == count, found
