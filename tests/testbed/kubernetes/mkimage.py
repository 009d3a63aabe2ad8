"""mkimage.py NAME ROOT OUT [--entrypoint ARG]… [--cmd ARG]… [--env K=V]… [--user U]

Writes ROOT as a one-layer image NAME into the docker archive OUT, for "ctr images import". Owners are set to root and
times to zero. Standard library alone.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path


def main() -> None:
    """Write the archive that the arguments ask for."""
    arguments = _arguments()
    layer = Path(f"{arguments.out}.layer")
    with tarfile.open(layer, "w", format=tarfile.GNU_FORMAT) as tar:
        for entry in sorted(os.listdir(arguments.root)):
            tar.add(Path(arguments.root) / entry, arcname=entry, filter=_plain)
    with layer.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    config = _config(arguments, digest)
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [arguments.name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(arguments.out, "w") as tar:
        for member, content in (("manifest.json", manifest), (name, config)):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        tar.add(layer, arcname="layer.tar", filter=_plain)
    layer.unlink()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(usage=__doc__)
    for name in ("name", "root", "out"):
        parser.add_argument(name)
    for name in ("entrypoint", "cmd", "env"):
        parser.add_argument(f"--{name}", action="append", default=[])
    parser.add_argument("--user", default="")
    return parser.parse_args()


def _config(arguments: argparse.Namespace, digest: str) -> bytes:
    config = {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Entrypoint": arguments.entrypoint or None,
            "Cmd": arguments.cmd or None,
            "User": arguments.user,
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", *arguments.env],
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": "1970-01-01T00:00:00Z"}],
    }
    return json.dumps(config).encode()


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    return info


if __name__ == "__main__":
    main()
