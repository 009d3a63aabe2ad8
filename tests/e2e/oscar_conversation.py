"""What an OSCAR user does with files and calls, as a program of its own, so that any oscar-python can run it.

Arguments: connection.json, an empty folder, the Service's name. Answers with what it saw, as JSON.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oscar_python.client import Client

SCRIPT = """#!/bin/sh
tr a-z A-Z < "$INPUT_FILE_PATH" > "$TMP_OUTPUT_DIR/$(basename "$INPUT_FILE_PATH")"
echo "shouted $(basename "$INPUT_FILE_PATH" | cut -c1-5)"
"""


def main() -> None:
    """Talk, and tell."""
    connection, folder, name = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), sys.argv[3]
    options = {
        "cluster_id": "lab",
        "endpoint": connection["endpoint"],
        "user": connection["username"],
        "password": connection["password"],
        "ssl": "False",
    }
    with contextlib.redirect_stdout(io.StringIO()):  # the client prints
        seen = talk(Client(options), folder, name)
    print(json.dumps(seen))


def until(found: Callable[[], Any], seconds: float = 60) -> Any:
    """What `found` returns, once it is something."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        if time.monotonic() > deadline:
            raise TimeoutError(found)
        time.sleep(0.1)
    return value


def talk(client: Any, folder: Path, name: str) -> dict[str, Any]:
    """From FDL to results, by upload, by synchronous and by asynchronous call."""
    (folder / "shout.sh").write_text(SCRIPT)
    fdl = folder / "shout.yaml"
    fdl.write_text(f"""functions:
  oscar:
  - lab:
      name: {name}
      image: busybox
      cpu: '0.5'
      memory: 128Mi
      script: {folder}/shout.sh
      input: [{{storage_provider: minio.default, path: {name}/in}}]
      output: [{{storage_provider: minio.default, path: {name}/out}}]
""")
    seen: dict[str, Any] = {"created": client.create_service(str(fdl)).status_code}
    seen["uploaded"] = upload(client, folder, name)
    seen["jobs"] = until(lambda: ended(client, name, 1))
    job = next(iter(client.list_jobs(name).json()["jobs"]))
    seen["log"] = client.get_job_logs(name, job).text
    answer = client.run_service(name, input="hello", output=str(folder / "answer.txt"))
    seen["sync"] = [answer.status_code, (folder / "answer.txt").read_text()]
    seen["sync_body"] = base64.b64decode(answer.text).decode()
    seen["async"] = client.run_service(name, input="later", async_call=True).status_code
    seen["jobs_after"] = until(lambda: ended(client, name, 3))
    seen["jobs_removed"] = client.remove_all_jobs(name).status_code
    seen["jobs_left"] = client.list_jobs(name).json()["jobs"]
    seen["removed"] = client.remove_service(name).status_code
    return seen


def ended(client: Any, name: str, count: int) -> list[str]:
    """Statuses of the Service's jobs, when so many have ended."""
    statuses = [job["status"] for job in client.list_jobs(name).json()["jobs"].values()]
    over = [status for status in statuses if status in ("Succeeded", "Failed")]
    return sorted(over) if len(over) >= count else []


def upload(client: Any, folder: Path, name: str) -> str:
    """Put a file, wait for its result, and fetch it with the client's own storage access."""
    (folder / "quiet.txt").write_text("a quiet text\n")
    (folder / "back").mkdir()
    storage = client.create_storage_client(name)
    storage.upload_file("minio.default", str(folder / "quiet.txt"), f"{name}/in")

    def result() -> bool:
        listing = storage.list_files_from_path("minio.default", f"{name}/out")
        return any(entry["Key"] == "out/quiet.txt" for entry in listing.get("Contents", []))

    until(result)
    storage.download_file("minio.default", str(folder / "back"), f"{name}/out/quiet.txt")
    return (folder / "back" / "quiet.txt").read_text()


if __name__ == "__main__":
    main()
