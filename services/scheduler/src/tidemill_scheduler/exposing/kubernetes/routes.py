"""What leads from outside to an exposed Service: an Ingress for nginx, or an HTTPRoute with Traefik's middlewares."""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Final

from tidemill_scheduler.exposing.domain import Exposure
from tidemill_scheduler.exposing.kubernetes import names
from tidemill_scheduler.exposing.kubernetes.template import Json, metadata
from tidemill_scheduler.exposing.settings import ExposedSettings
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings

TRAEFIK: Final = "traefik.io/v1alpha1"
_NGINX: Final = "nginx.ingress.kubernetes.io"
_FORWARD: Final = "forward"


def routes(exposure: Exposure, token: str, settings: KubernetesSettings, exposed: ExposedSettings) -> list[Json]:
    """All objects of the route; none where the gateway leads, or the first port is one of the nodes'."""
    has_node_port = bool(exposure.expose.node_port and exposure.expose.node_port[0])
    if exposed.route == "gateway" or has_node_port:
        return []
    if exposed.route == "ingress":
        password = [_password(exposure, names.ingress_password(exposure.name), "auth", token, settings)]
        return [*(password if exposure.expose.set_auth else []), _ingress(exposure, settings, exposed)]
    return [
        _cors_middleware(exposure, settings, exposed),
        *(_auth_middleware(exposure, token, settings, exposed) if exposure.expose.set_auth else []),
        _http_route(exposure, settings, exposed),
    ]


def htpasswd(user: str, password: str) -> str:
    """A line that nginx and Traefik read. SHA-1 does: the password is a token of 256 random bits, not a person's."""
    digest = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return f"{user}:{{SHA}}{base64.b64encode(digest).decode()}"


def _password(exposure: Exposure, name: str, key: str, token: str, settings: KubernetesSettings) -> Json:
    line = base64.b64encode(htpasswd(exposure.name, token).encode()).decode()
    meta = metadata(exposure, name, settings)
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": {key: line}}


def _ingress(exposure: Exposure, settings: KubernetesSettings, exposed: ExposedSettings) -> Json:
    base = exposure.base_path
    backend = {"service": {"name": names.kubernetes_service(exposure.name), "port": {"number": 80}}}
    path = {"path": f"{base}/?(.*)", "pathType": "ImplementationSpecific", "backend": backend}
    rule: Json = {"http": {"paths": [path]}}
    spec: Json = {"ingressClassName": exposed.ingress_class, "rules": [rule]}
    if exposed.host:
        rule["host"] = exposed.host
        spec["tls"] = [{"hosts": [exposed.host], "secretName": exposed.host}]
    meta = metadata(exposure, names.ingress(exposure.name), settings)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {**meta, "annotations": _nginx_annotations(exposure, exposed)},
        "spec": spec,
    }


def _nginx_annotations(exposure: Exposure, exposed: ExposedSettings) -> dict[str, str]:
    found = {
        "use-regex": "true",
        "rewrite-target": f"{exposure.base_path}/$1" if exposure.expose.rewrite_target else "/$1",
        "proxy-body-size": "0",
        "proxy-request-buffering": "off",
        "proxy-buffering": "off",
        "enable-cors": "true",
        "cors-allow-origin": ", ".join(exposed.cors_origins),
        "cors-allow-methods": ", ".join(exposed.cors_methods),
        "cors-allow-headers": ", ".join(exposed.cors_headers),
    }
    if exposure.expose.set_auth:
        found |= _nginx_auth(exposure, exposed)
    return {f"{_NGINX}/{name}": value for name, value in found.items()}


def _nginx_auth(exposure: Exposure, exposed: ExposedSettings) -> dict[str, str]:
    if _is_forward(exposure, exposed):
        return {"auth-url": f"{exposed.auth_url.rstrip('/')}/system/services/{exposure.name}/auth"}
    return {
        "auth-type": "basic",
        "auth-secret": names.ingress_password(exposure.name),
        "auth-realm": exposure.name,
    }


def _http_route(exposure: Exposure, settings: KubernetesSettings, exposed: ExposedSettings) -> Json:
    parent = {"name": exposed.gateway_name, "namespace": exposed.gateway_namespace or settings.namespace}
    wanted = [names.cors_middleware(exposure.name)]
    if exposure.expose.set_auth:
        wanted.append(names.auth_middleware(exposure.name))
    filters: list[Json] = [
        {"type": "ExtensionRef", "extensionRef": {"group": "traefik.io", "kind": "Middleware", "name": name}}
        for name in wanted
    ]
    if not exposure.expose.rewrite_target:
        rewrite = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}
        filters.append({"type": "URLRewrite", "urlRewrite": rewrite})
    spec: Json = {
        "parentRefs": [parent],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": exposure.base_path}}],
                "filters": filters,
                "backendRefs": [{"name": names.kubernetes_service(exposure.name), "port": 80}],
            }
        ],
    }
    if exposed.host:
        spec["hostnames"] = [exposed.host]
    meta = metadata(exposure, names.route(exposure.name), settings)
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": meta, "spec": spec}


def _cors_middleware(exposure: Exposure, settings: KubernetesSettings, exposed: ExposedSettings) -> Json:
    headers = {
        "accessControlAllowOriginList": list(exposed.cors_origins),
        "accessControlAllowMethods": list(exposed.cors_methods),
        "accessControlAllowHeaders": list(exposed.cors_headers),
        "accessControlMaxAge": 600,
        "addVaryHeader": True,
    }
    return _middleware(exposure, names.cors_middleware(exposure.name), {"headers": headers}, settings)


def _auth_middleware(
    exposure: Exposure, token: str, settings: KubernetesSettings, exposed: ExposedSettings
) -> list[Json]:
    name = names.auth_middleware(exposure.name)
    if _is_forward(exposure, exposed):
        cookie = f"oscar_service_{exposure.name.replace('-', '_')}_auth"
        address = f"{exposed.auth_url.rstrip('/')}/system/services/{exposure.name}/auth"
        forward = {"address": address, "addAuthCookiesToResponse": [cookie]}
        return [_middleware(exposure, name, {"forwardAuth": forward}, settings)]
    secret = names.traefik_password(exposure.name)
    return [
        _password(exposure, secret, "users", token, settings),
        _middleware(exposure, name, {"basicAuth": {"secret": secret, "realm": exposure.name}}, settings),
    ]


def _middleware(exposure: Exposure, name: str, spec: Json, settings: KubernetesSettings) -> Json:
    meta: dict[str, Any] = metadata(exposure, name, settings)
    return {"apiVersion": TRAEFIK, "kind": "Middleware", "metadata": meta, "spec": spec}


def _is_forward(exposure: Exposure, exposed: ExposedSettings) -> bool:
    """Without an address to ask it is basic: never without protection."""
    return exposure.expose.auth_type.lower() == _FORWARD and bool(exposed.auth_url)
