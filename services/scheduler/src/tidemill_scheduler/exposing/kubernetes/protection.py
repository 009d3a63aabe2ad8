"""Who may reach an exposed Service: by a password that a controller reads, or by asking tidemill's gateway."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from tidemill_scheduler.exposing.domain import Exposure
from tidemill_scheduler.exposing.kubernetes.template import Json, metadata
from tidemill_scheduler.exposing.settings import ExposedSettings
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings

_FORWARD: Final = "forward"


def is_forward(exposure: Exposure, exposed: ExposedSettings) -> bool:
    """Whether the gateway is asked. Without an address to ask it is basic: never without protection."""
    return exposure.expose.auth_type.lower() == _FORWARD and bool(exposed.auth_url)


def forward_url(exposure: Exposure, exposed: ExposedSettings) -> str:
    """Where a controller asks the gateway."""
    return f"{exposed.auth_url.rstrip('/')}/system/services/{exposure.name}/auth"


def htpasswd(user: str, password: str) -> str:
    """A line that nginx and Traefik read. SHA-1 does: the password is a token of 256 random bits, not a person's."""
    digest = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return f"{user}:{{SHA}}{base64.b64encode(digest).decode()}"


def password_secret(exposure: Exposure, name: str, key: str, token: str, settings: KubernetesSettings) -> Json:
    """The Secret with that line."""
    line = base64.b64encode(htpasswd(exposure.name, token).encode()).decode()
    meta = metadata(exposure, name, settings)
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": {key: line}}
