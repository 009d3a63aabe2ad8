"""`/system/config`: how clients reach the store, and which images are allowed."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from tidemill_common.errors import InvalidInputError
from tidemill_gateway.catalogue import CatalogueRules
from tidemill_gateway.catalogue.setting_rows import SettingRows
from tidemill_gateway.routes.oscar.answers import OscarRoute, document, posted, texts_field
from tidemill_gateway.routes.oscar.platform_store import PlatformStore


class ConfigRoutes:
    """Answers from the settings and the platform's own credentials."""

    def __init__(self, *, settings: SettingRows, store: PlatformStore, rules: CatalogueRules) -> None:
        self._settings = settings
        self._store = store
        self._rules = rules

    def router(self) -> APIRouter:
        """The routes."""
        routes = APIRouter(route_class=OscarRoute)
        routes.add_api_route("/system/config", self.read, methods=["GET"], summary="Configuration and store access")
        routes.add_api_route("/system/config", self.write, methods=["PUT"], summary="Allow image repositories")
        return routes

    async def read(self) -> Response:
        """All five fields of `minio_provider` are always there: oscar-cli needs them (contract 9.1)."""
        store = await self._store.credentials()
        return document(
            {
                "config": self._config(),
                "minio_provider": {
                    "endpoint": store.endpoint or "",
                    "verify": store.verify,
                    "access_key": store.access_key,
                    "secret_key": store.secret_key,
                    "region": store.region,
                },
                "allowed_image_repositories": list(await self._settings.allowed_repositories()),
            }
        )

    async def write(self, request: Request) -> Response:
        """Replace the allowed repositories; answers the stored list."""
        body = await posted(request, what="The configuration")
        repositories = texts_field(body, "allowed_image_repositories")
        if any(not repository.strip() for repository in repositories):
            raise InvalidInputError("allowed_image_repositories must not contain an empty text: it would allow all")
        await self._settings.allow_repositories(repositories)
        return document(list(repositories))

    def _config(self) -> dict[str, object]:
        return {
            "name": "oscar",
            "namespace": "oscar",
            "services_namespace": self._rules.namespace,
            "controller_service_account": "oscar-sa",
            "gpu_available": False,
            "interLink_available": False,
            "serverless_backend": "tidemill",
            "yunikorn_enable": False,
            "kueue_enable": False,
            "volume_enable": False,
            "oidc_groups": [""],
            "minio_quota_enabled": False,
        }
