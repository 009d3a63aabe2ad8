"""What a user does with oscar-python, as a program: a process of its own, so that any version of the client can run it.

Arguments: the gateway's URL, an empty folder, the Service's name. Answers with what it saw, as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import oscar_python
from oscar_python.client import Client


def main() -> None:
    """Talk, and tell."""
    endpoint, folder, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    options = {"cluster_id": "lab", "endpoint": endpoint, "user": "oscar", "password": "pw", "ssl": "False"}
    with contextlib.redirect_stdout(io.StringIO()):  # the client prints
        seen = talk(Client(options), folder, name) | {"client": str(Path(oscar_python.__path__[0]).parent)}
    print(json.dumps(seen))


def talk(client: Any, folder: Path, name: str) -> dict[str, Any]:
    """Everything that needs no Worker."""
    service = {
        "name": name,
        "image": "busybox",
        "cpu": "0.5",
        "memory": "128Mi",
        "script": "#!/bin/sh\ntrue\n",
        "input": [{"storage_provider": "minio.default", "path": f"{name}/in"}],
        "output": [{"storage_provider": "minio.default", "path": f"{name}/out"}],
        "environment": {"Variables": {"K": "v"}},
    }
    seen: dict[str, Any] = {
        "info": client.get_cluster_info().json()["version"],
        "status": client.get_cluster_status().status_code,
        "created": client.create_service(service).status_code,
    }
    seen["listed"] = [entry["name"] for entry in client.list_services().json()]
    shown = client.get_service(name).json()
    seen["variables"] = shown["environment"]["variables"]
    seen["updated"] = client.update_service(name, shown | {"cpu": "1"}).status_code
    seen["cpu"] = client.get_service(name).json()["cpu"]
    seen |= store(client, folder, name)
    seen["jobs"] = client.list_jobs(name).json()["jobs"]
    seen["called"] = client.run_service(name, input="hello", async_call=True).status_code
    seen["jobs_removed"] = client.remove_all_jobs(name).status_code
    seen["removed"] = client.remove_service(name).status_code
    seen["left"] = [entry["name"] for entry in client.list_services().json()]
    return seen


def store(client: Any, folder: Path, name: str) -> dict[str, Any]:
    """Files by the client's own S3 access."""
    (folder / "hello.txt").write_text("hello")
    (folder / "back").mkdir()
    storage = client.create_storage_client(name)
    storage.upload_file("minio.default", str(folder / "hello.txt"), f"{name}/in")
    storage.download_file("minio.default", str(folder / "back"), f"{name}/in/hello.txt")
    listing = storage.list_files_from_path("minio.default", f"{name}/in")
    return {
        "back": (folder / "back" / "hello.txt").read_text(),
        "files": sorted(entry["Key"] for entry in listing["Contents"]),
    }


if __name__ == "__main__":
    main()
