"""What leads from outside to an exposed Service: an Ingress (nginx's or Traefik's), or an HTTPRoute through Traefik."""

from __future__ import annotations

from typing import Final

from tidemill_scheduler.exposing.domain import Exposure
from tidemill_scheduler.exposing.kubernetes import names
from tidemill_scheduler.exposing.kubernetes.protection import forward_url, is_forward, password_secret
from tidemill_scheduler.exposing.kubernetes.template import Json, metadata
from tidemill_scheduler.exposing.kubernetes.traefik import middlewares, names_in
from tidemill_scheduler.exposing.settings import ExposedSettings
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings

_NGINX: Final = "nginx.ingress.kubernetes.io"
_TRAEFIK_USES: Final = "traefik.ingress.kubernetes.io/router.middlewares"


def routes(exposure: Exposure, token: str, settings: KubernetesSettings, exposed: ExposedSettings) -> list[Json]:
    """All objects of the route; none where the gateway leads, or the first port is one of the nodes'."""
    has_node_port = bool(exposure.expose.node_port and exposure.expose.node_port[0])
    if exposed.route == "gateway" or has_node_port:
        return []
    if exposed.route == "httproute":
        made = middlewares(exposure, token, settings, exposed, strips=False)
        return [*made, _http_route(exposure, names_in(made), settings, exposed)]
    if exposed.ingress_controller == "traefik":
        return _traefiks_ingress(exposure, token, settings, exposed)
    return _nginxs_ingress(exposure, token, settings, exposed)


def _nginxs_ingress(
    exposure: Exposure, token: str, settings: KubernetesSettings, exposed: ExposedSettings
) -> list[Json]:
    path = {"path": f"{exposure.base_path}/?(.*)", "pathType": "ImplementationSpecific"}
    ingress = _ingress(exposure, path, _nginx_annotations(exposure, exposed), settings, exposed)
    if not exposure.expose.set_auth:
        return [ingress]
    return [password_secret(exposure, names.ingress_password(exposure.name), "auth", token, settings), ingress]


def _traefiks_ingress(
    exposure: Exposure, token: str, settings: KubernetesSettings, exposed: ExposedSettings
) -> list[Json]:
    made = middlewares(exposure, token, settings, exposed, strips=not exposure.expose.rewrite_target)
    uses = ",".join(f"{settings.namespace}-{name}@kubernetescrd" for name in names_in(made))
    path = {"path": exposure.base_path, "pathType": "Prefix"}
    return [*made, _ingress(exposure, path, {_TRAEFIK_USES: uses}, settings, exposed)]


def _ingress(
    exposure: Exposure, path: Json, annotations: dict[str, str], settings: KubernetesSettings, exposed: ExposedSettings
) -> Json:
    backend = {"service": {"name": names.kubernetes_service(exposure.name), "port": {"number": 80}}}
    rule: Json = {"http": {"paths": [{**path, "backend": backend}]}}
    spec: Json = {"ingressClassName": exposed.ingress_class, "rules": [rule]}
    if exposed.host:
        rule["host"] = exposed.host
        spec["tls"] = [{"hosts": [exposed.host], "secretName": exposed.host}]
    meta = metadata(exposure, names.ingress(exposure.name), settings)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {**meta, "annotations": {**annotations, **_own_annotations(exposure, settings, exposed)}},
        "spec": spec,
    }


def _own_annotations(exposure: Exposure, settings: KubernetesSettings, exposed: ExposedSettings) -> dict[str, str]:
    """The operator's, who may want timeouts, certificates or another Middleware."""
    words = {"{service}": exposure.name, "{namespace}": settings.namespace, "{path}": exposure.base_path}
    found = dict(exposed.ingress_annotations)
    for word, meant in words.items():
        found = {name: value.replace(word, meant) for name, value in found.items()}
    return found


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
    if is_forward(exposure, exposed):
        return {"auth-url": forward_url(exposure, exposed)}
    return {
        "auth-type": "basic",
        "auth-secret": names.ingress_password(exposure.name),
        "auth-realm": exposure.name,
    }


def _http_route(exposure: Exposure, wanted: list[str], settings: KubernetesSettings, exposed: ExposedSettings) -> Json:
    parent = {"name": exposed.gateway_name, "namespace": exposed.gateway_namespace or settings.namespace}
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
