"""The real client oscar-python, newest and older, against the gateway's process on a real bus and store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.gateway.test_http import Gateway, gateway_process
from tests.servers import Running

pytestmark = pytest.mark.integration

_HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def gateway(nats: Running, seaweed: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """The module's gateway."""
    with gateway_process(tmp_path_factory.mktemp("gateway"), nats, seaweed) as running:
        yield running


def converse(gateway: Gateway, folder: Path, name: str, *path: Path) -> dict[str, object]:
    """Run the conversation, with the client that is first on `path`."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    done = subprocess.run(
        [sys.executable, str(_HERE / "conversation.py"), gateway.url, str(folder), name],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, object] = json.loads(done.stdout)
    return seen


def expected(name: str) -> dict[str, object]:
    """What a user of OSCAR sees."""
    return {
        "info": "v3.7.0",
        "status": 200,
        "created": 201,
        "listed": [name],
        "variables": {"K": "v"},
        "updated": 204,
        "cpu": "1",
        "back": "hello",
        "files": ["in/", "in/hello.txt"],
        "jobs": {},
        "called": 201,
        "jobs_removed": 204,
        "removed": 204,
        "left": [],
    }


def test_the_newest_client_works(gateway: Gateway, tmp_path: Path, old_client: Path) -> None:
    seen = converse(gateway, tmp_path, "newest")

    assert seen.pop("client") != str(old_client)
    assert seen == expected("newest")


def test_the_older_client_works(gateway: Gateway, tmp_path: Path, old_client: Path) -> None:
    seen = converse(gateway, tmp_path, "older", old_client)

    assert seen.pop("client") == str(old_client)
    assert seen == expected("older")
