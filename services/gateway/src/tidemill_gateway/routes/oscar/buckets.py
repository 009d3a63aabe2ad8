"""`/system/buckets` (OSCAR contract 1.9)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, cast

from fastapi import APIRouter, Request, Response

from tidemill_common.errors import InvalidInputError
from tidemill_common.storage import ObjectInfo
from tidemill_gateway.catalogue import ADMIN, Bucket, Buckets
from tidemill_gateway.catalogue.bucket_rows import ADMIN_OWNERS
from tidemill_gateway.catalogue.buckets import Page, Usage
from tidemill_gateway.routes.oscar.answers import OscarRoute, document, empty, field, posted, text_field, texts_field

_WHAT: Final = "The bucket"
_METHODS: Final[Mapping[str, str]] = {"upload": "PUT", "download": "GET"}
_MOST_SECONDS: Final = 604_800
_USUAL_SECONDS: Final = 900
_UNITS: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi")


class BucketRoutes:
    """Make, list, share, remove, and presign."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    def router(self) -> APIRouter:
        """The routes."""
        routes = APIRouter(route_class=OscarRoute)
        path, one = "/system/buckets", "/system/buckets/{name}"
        routes.add_api_route(path, self.create, methods=["POST"], status_code=201, summary="Make a bucket")
        routes.add_api_route(path, self.list, methods=["GET"], summary="List buckets")
        routes.add_api_route(path, self.share, methods=["PUT"], status_code=204, summary="Change who may see a bucket")
        routes.add_api_route(one, self.get, methods=["GET"], summary="One bucket and a page of its objects")
        routes.add_api_route(one, self.remove, methods=["DELETE"], status_code=204, summary="Remove with all objects")
        routes.add_api_route(f"{one}/presign", self.presign, methods=["POST"], summary="A URL for one object")
        return routes

    async def create(self, request: Request) -> Response:
        """201 and nothing else."""
        body = await posted(request, what=_WHAT)
        await self._buckets.create(
            text_field(body, "bucket_name"),
            owner=ADMIN,
            visibility=text_field(body, "visibility"),
            allowed_users=texts_field(body, "allowed_users"),
        )
        return empty(201)

    async def list(self) -> Response:
        """Every bucket; `null` when there is none, as OSCAR tells the admin."""
        shown = [await self._shown(bucket) for bucket in await self._buckets.all()]
        return document(shown or None)

    async def get(self, name: str, request: Request) -> Response:
        """One bucket with up to 70 objects."""
        bucket = await self._buckets.get(name)
        page = await self._buckets.page(name, request.query_params.get("page", ""))
        return document(await self._shown(bucket) | _single(bucket) | _page_json(page, name))

    async def share(self, request: Request) -> Response:
        """204 and nothing else."""
        body = await posted(request, what=_WHAT)
        name = text_field(body, "bucket_name").strip("/")
        users = texts_field(body, "allowed_users")
        await self._buckets.share(name, visibility=text_field(body, "visibility"), allowed_users=users)
        return empty(204)

    async def remove(self, name: str) -> Response:
        """204 and nothing else."""
        await self._buckets.remove(name)
        return empty(204)

    async def presign(self, name: str, request: Request) -> Response:
        """A URL, and what to send with it."""
        body = await posted(request, what=_WHAT)
        key, operation = text_field(body, "object_key").lstrip("/"), text_field(body, "operation").lower()
        if not key or operation not in _METHODS:
            raise InvalidInputError("object_key, and an operation of upload or download, are required")
        seconds = _seconds(field(body, "expires_in"))
        content_type = text_field(body, "content_type") or None
        url = await self._buckets.presign(
            f"{name}/{key}",
            cast(Literal["upload", "download"], operation),
            expires=timedelta(seconds=seconds),
            content_type=content_type,
        )
        answer = {
            "object_key": key,
            "operation": operation,
            "method": _METHODS[operation],
            "url": url,
            "expires_at": _instant(datetime.now(UTC) + timedelta(seconds=seconds)),
        }
        headers = {"Content-Type": content_type} if content_type and operation == "upload" else None
        return document(answer | ({"headers": headers} if headers else {}))

    async def _shown(self, bucket: Bucket) -> dict[str, Any]:
        usage = await self._buckets.usage(bucket.name)
        return {
            "bucket_name": bucket.name,
            "visibility": bucket.visibility,
            "allowed_users": list(bucket.allowed_users) or None,
            "owner": "" if bucket.from_service and bucket.owner in ADMIN_OWNERS else _owner(bucket),
            "metadata": _metadata(bucket),
            "storage_quota": {"max": "", "max_bytes": 0, "source": "unsupported"},
            "storage_usage": _usage_json(usage),
            "attribution": "complete" if usage.is_complete and bucket.from_service else "partial",
        }


def _owner(bucket: Bucket) -> str:
    return "oscar" if bucket.owner in ADMIN_OWNERS else bucket.owner


def _metadata(bucket: Bucket) -> dict[str, str]:
    metadata = {"owner_name": _owner(bucket)}
    return metadata | ({"from_service": bucket.from_service} if bucket.from_service else {})


def _single(bucket: Bucket) -> dict[str, Any]:
    """What a bucket's own page tells in another way than the list (contract 16)."""
    is_admins = bucket.owner in ADMIN_OWNERS
    from_admins_service = is_admins and bool(bucket.from_service)
    return {
        "owner": ADMIN if from_admins_service else _owner(bucket),
        "metadata": _metadata(bucket) | {"owner": "" if from_admins_service else _owner(bucket)},
    }


def _usage_json(usage: Usage) -> dict[str, Any]:
    shown: dict[str, Any] = {"used": size_text(usage.size_bytes), "used_bytes": usage.size_bytes}
    return shown | ({"objects": usage.objects} if usage.objects else {})


def _page_json(page: Page, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = {"is_truncated": page.next_page is not None, "returned_items": len(page.objects)}
    if page.objects:
        shown["objects"] = [_object_json(item, name) for item in page.objects]
    return shown | ({"next_page": page.next_page} if page.next_page else {})


def _object_json(item: ObjectInfo, bucket: str) -> dict[str, Any]:
    return {
        "object_name": item.path.removeprefix(f"{bucket}/"),
        "size_bytes": item.size_bytes,
        "last_modified": f"{item.modified.astimezone(UTC):%Y-%m-%d %H:%M:%S} +0000 UTC",
    }


def _seconds(value: object) -> int:
    if value is None or value == 0:
        return _USUAL_SECONDS
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_SECONDS:
        raise InvalidInputError(f"expires_in must be a number of seconds between 1 and {_MOST_SECONDS}")
    return value


def _instant(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def size_text(size_bytes: int) -> str:
    """A Kubernetes quantity: plain digits, or the greatest binary unit that leaves no rest."""
    unit = 0
    while size_bytes and size_bytes % 1024 == 0 and unit < len(_UNITS) - 1:
        size_bytes, unit = size_bytes // 1024, unit + 1
    return f"{size_bytes}{_UNITS[unit]}"
