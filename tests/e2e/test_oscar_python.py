"""OSCAR's own Python client, newest and older: FDL, upload, results, sync and async calls, logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Platform

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.mark.parametrize("version", ["newest", "1-3-2"])
def test_a_user_of_oscar_python_finds_everything_as_it_was(
    platform: Platform, tmp_path: Path, old_client: Path, version: str
) -> None:
    path = str(old_client) if version == "1-3-2" else ""
    program = Path(__file__).parent / "oscar_conversation.py"
    done = subprocess.run(
        [sys.executable, str(program), str(platform.directory / "connection.json"), str(tmp_path), f"shout-{version}"],
        env=os.environ | {"PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr + platform.logs()
    assert json.loads(done.stdout) == {
        "created": 201,
        "uploaded": "A QUIET TEXT\n",
        "jobs": ["Succeeded"],
        "log": "shouted quiet\n",
        "sync": [200, "HELLO"],
        "sync_body": "HELLO",
        "async": 201,
        "jobs_after": ["Succeeded", "Succeeded", "Succeeded"],
        "jobs_removed": 204,
        "jobs_left": {},
        "removed": 204,
    }
