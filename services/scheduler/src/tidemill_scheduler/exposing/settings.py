"""What an operator can change of exposed Services; OSCAR's variable is named where there is one (contract 8, 13)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tidemill_common.settings import Group


class ExposedSettings(Group):
    """How exposed Services are reached in a cluster. On other launchers the gateway alone leads to them."""

    route: Literal["gateway", "ingress", "httproute"] = "gateway"
    """What leads from outside to a Service: tidemill's gateway, an Ingress, or an HTTPRoute with Traefik's middlewares.
    EXPOSED_SERVICES_ROUTE_KIND."""
    host: str = ""
    """Of the routes; empty: any. With it an Ingress has the TLS secret of the same name. INGRESS_HOST."""
    ingress_class: str = "nginx"
    ingress_controller: Literal["nginx", "traefik"] = "nginx"
    """Whose annotations Ingresses have: each rewrites paths and protects Services in its own way."""
    ingress_annotations: dict[str, str] = Field(default_factory=dict)
    """More of them; one of ours is replaced. `{service}`, `{namespace}` and `{path}` (the public one) are filled in."""
    gateway_name: str = ""
    """The Gateway of HTTPRoutes. HTTPROUTE_GATEWAY_NAME."""
    gateway_namespace: str = ""
    """Empty: that of the Services. HTTPROUTE_GATEWAY_NAMESPACE."""
    auth_url: str = ""
    """tidemill's gateway as the cluster reaches it, for `auth_type: forward`: `http://tidemill-gateway.tidemill:8080`."""
    cors_origins: tuple[str, ...] = ("*",)
    """INGRESS_SERVICES_CORS_ALLOWED_ORIGINS, and so on."""
    cors_methods: tuple[str, ...] = ("GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS")
    cors_headers: tuple[str, ...] = ("*",)

    @model_validator(mode="after")
    def _names_its_gateway(self) -> Self:
        if self.route == "httproute" and not self.gateway_name:
            raise ValueError("exposed.route is httproute: exposed.gateway_name must name the Gateway")
        return self
