"""Registry credentials as `docker login` stores them, and image names in full."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import structlog

log = structlog.get_logger()
_HUB: Final = "docker.io"
_HUB_KEYS: Final = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")


def config_file() -> Path:
    """Where `docker login` writes for this user."""
    folder = os.environ.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


def full_name(image: str) -> str:
    """The name with its registry and tag, as Docker completes it: `alpine` is `docker.io/library/alpine:latest`."""
    registry, path = registry_of(image)
    last = path.rpartition("/")[2]
    return f"{registry}/{path}" if ":" in last or "@" in last else f"{registry}/{path}:latest"


def registry_of(image: str) -> tuple[str, str]:
    """(registry, path): what is before the first slash is a registry if it looks like a host."""
    first, slash, rest = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return (_HUB if first == "index.docker.io" else first), rest
    return _HUB, image if slash else f"library/{image}"


def credentials_for(image: str, config: Mapping[str, Any]) -> dict[str, str] | None:
    """Credentials of the image's registry, from the content of a config.json; None: pull without."""
    registry, _ = registry_of(image)
    auths = config.get("auths")
    if not isinstance(auths, Mapping):
        return None
    keys = _HUB_KEYS if registry == _HUB else (registry, f"https://{registry}", f"https://{registry}/v1/")
    entry = next((auths[key] for key in keys if isinstance(auths.get(key), Mapping)), None)
    return None if entry is None else _auth(entry)


def _auth(entry: Mapping[str, Any]) -> dict[str, str] | None:
    if token := entry.get("identitytoken"):
        return {"identitytoken": str(token)}
    if "username" in entry and "password" in entry:
        return {"username": str(entry["username"]), "password": str(entry["password"])}
    try:
        name, colon, password = base64.b64decode(str(entry.get("auth", ""))).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return {"username": name, "password": password.rstrip("\0")} if colon else None


def read_config(path: Path) -> Mapping[str, Any]:
    """The content of a config.json; empty when there is none or it cannot be read. Read anew for each pull."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("registry credentials cannot be read", path=str(path), error=str(error))
        return {}
    if not isinstance(found, dict):
        return {}
    if found.get("credsStore") or found.get("credHelpers"):
        log.warning("registry credentials in a helper program are not used", path=str(path))
    return found
