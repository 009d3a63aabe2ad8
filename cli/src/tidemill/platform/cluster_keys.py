"""`python -m tidemill.platform.cluster_keys SECRET`: the bus's keys as a Kubernetes Secret, for the Helm chart.

Keys are made once: a Secret that is there is read, and written again only where this version makes something else of
the same keys. Runs in a pod whose service account may get, create and update that one Secret.
"""

from __future__ import annotations

import base64
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx

from tidemill.errors import CliError
from tidemill.platform.keys import KEYS_FILE, make_keys

_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_SERVER: Final = "TIDEMILL_KEYS_SERVER"


def renewed(existing: Mapping[str, str]) -> dict[str, str]:
    """The files of an installation, of the keys that are there or of new ones.

    Args:
        existing: Name of each file -> content.

    Raises:
        CliError: The keys that are there are damaged. They are not replaced: the bus's data belongs to them.
    """
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if KEYS_FILE in existing:
            (directory / KEYS_FILE).write_text(existing[KEYS_FILE])
        make_keys(directory)
        return {path.name: path.read_text() for path in directory.iterdir()}


def provide(client: httpx.Client, namespace: str, name: str) -> bool:
    """Have the Secret as it should be; whether it had to be written.

    Raises:
        CliError: The API server refuses, or the Secret is damaged.
    """
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    answer = client.get(f"{secrets}/{name}")
    found = {} if answer.status_code == 404 else _checked(answer)
    data = found.get("data") or {}
    existing = {file: base64.b64decode(value).decode() for file, value in data.items()}
    wanted = renewed(existing)
    if existing == wanted:
        return False
    secret = _manifest(name, namespace, wanted, found.get("metadata"))
    _checked(client.put(f"{secrets}/{name}", json=secret) if found else client.post(secrets, json=secret))
    return True


def _manifest(name: str, namespace: str, files: Mapping[str, str], metadata: object) -> dict[str, Any]:
    labels = {"app.kubernetes.io/managed-by": "tidemill", "app.kubernetes.io/component": "keys"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata or {"name": name, "namespace": namespace, "labels": labels},
        "data": {file: base64.b64encode(text.encode()).decode() for file, text in files.items()},
    }


def _checked(answer: httpx.Response) -> dict[str, Any]:
    content = answer.json() if answer.headers.get("content-type", "").startswith("application/json") else {}
    if answer.is_error:
        raise CliError(
            f"{answer.request.method} {answer.request.url.path}: {content.get('message', answer.status_code)}"
        )
    return dict(content)


def main(arguments: list[str]) -> int:
    """0: the Secret is as it should be."""
    (name,) = arguments
    server = os.environ.get(_SERVER, "https://kubernetes.default.svc")
    headers = {"Authorization": f"Bearer {(_ACCOUNT / 'token').read_text().strip()}"}
    namespace = (_ACCOUNT / "namespace").read_text().strip()
    try:
        with httpx.Client(base_url=server, headers=headers, verify=str(_ACCOUNT / "ca.crt"), timeout=30) as client:
            is_written = provide(client, namespace, name)
    except (CliError, httpx.HTTPError) as error:
        sys.stderr.write(f"bus keys: {error}\n")
        return 1
    sys.stdout.write(f"secret {name} {'written' if is_written else 'unchanged'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
