"""Traefik's Middlewares of an exposed Service, for its HTTPRoute or its Ingress."""

from __future__ import annotations

from typing import Final

from tidemill_scheduler.exposing.domain import Exposure
from tidemill_scheduler.exposing.kubernetes import names
from tidemill_scheduler.exposing.kubernetes.protection import forward_url, is_forward, password_secret
from tidemill_scheduler.exposing.kubernetes.template import Json, metadata
from tidemill_scheduler.exposing.settings import ExposedSettings
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings

TRAEFIK: Final = "traefik.io/v1alpha1"
_MIDDLEWARE: Final = "Middleware"


def middlewares(
    exposure: Exposure, token: str, settings: KubernetesSettings, exposed: ExposedSettings, *, strips: bool
) -> list[Json]:
    """In the order in which requests pass them, with the Secret that one needs.

    Args:
        strips: One takes the public path away; an HTTPRoute does that itself.
    """
    return [
        _cors(exposure, settings, exposed),
        *(_auth(exposure, token, settings, exposed) if exposure.expose.set_auth else []),
        *([_strip(exposure, settings)] if strips else []),
    ]


def names_in(made: list[Json]) -> list[str]:
    """Of the Middlewares among objects."""
    return [item["metadata"]["name"] for item in made if item["kind"] == _MIDDLEWARE]


def _cors(exposure: Exposure, settings: KubernetesSettings, exposed: ExposedSettings) -> Json:
    headers = {
        "accessControlAllowOriginList": list(exposed.cors_origins),
        "accessControlAllowMethods": list(exposed.cors_methods),
        "accessControlAllowHeaders": list(exposed.cors_headers),
        "accessControlMaxAge": 600,
        "addVaryHeader": True,
    }
    return _middleware(exposure, names.cors_middleware(exposure.name), {"headers": headers}, settings)


def _auth(exposure: Exposure, token: str, settings: KubernetesSettings, exposed: ExposedSettings) -> list[Json]:
    name = names.auth_middleware(exposure.name)
    if is_forward(exposure, exposed):
        cookie = f"oscar_service_{exposure.name.replace('-', '_')}_auth"
        forward = {"address": forward_url(exposure, exposed), "addAuthCookiesToResponse": [cookie]}
        return [_middleware(exposure, name, {"forwardAuth": forward}, settings)]
    secret = names.traefik_password(exposure.name)
    return [
        password_secret(exposure, secret, "users", token, settings),
        _middleware(exposure, name, {"basicAuth": {"secret": secret, "realm": exposure.name}}, settings),
    ]


def _strip(exposure: Exposure, settings: KubernetesSettings) -> Json:
    prefixes = {"prefixes": [exposure.base_path]}
    return _middleware(exposure, names.strip_middleware(exposure.name), {"stripPrefix": prefixes}, settings)


def _middleware(exposure: Exposure, name: str, spec: Json, settings: KubernetesSettings) -> Json:
    meta = metadata(exposure, name, settings)
    return {"apiVersion": TRAEFIK, "kind": _MIDDLEWARE, "metadata": meta, "spec": spec}
