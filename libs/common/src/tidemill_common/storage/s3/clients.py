"""Clients of the two libraries, set up alike: path style, no checksums that old stores refuse, bounded retries.

Nothing is taken from `AWS_*` variables or instance metadata: a Service without keys must not get the platform's.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from obstore.store import S3Store

from tidemill_common.errors import InvalidInputError
from tidemill_common.secrets import S3Credentials

if TYPE_CHECKING:  # only in the library's stubs
    from obstore.store import S3Credential

CONNECT_TIMEOUT: Final = timedelta(seconds=3)
READ_TIMEOUT: Final = timedelta(seconds=60)
"""Without a single byte."""
_MAX_RETRIES: Final = 3
_RETRY_TIMEOUT: Final = timedelta(seconds=8)
_WHOLE_REQUEST: Final = timedelta(hours=1)
_POOL_SIZE: Final = 64


def endpoint_of(credentials: S3Credentials) -> str:
    """The URL to talk to; AWS's own for the region when none is given."""
    if credentials.endpoint is None:
        suffix = "amazonaws.com.cn" if credentials.region.startswith("cn-") else "amazonaws.com"
        return f"https://s3.{credentials.region}.{suffix}"
    if not credentials.endpoint.startswith(("http://", "https://")):
        raise InvalidInputError(f"S3 endpoint {credentials.endpoint!r} must begin with http:// or https://")
    return credentials.endpoint.rstrip("/")


def bucket_client(credentials: S3Credentials, bucket: str) -> S3Store:
    """obstore's client of one bucket. Every setting is given, since it would look in the environment for the others."""

    def keys() -> S3Credential:
        return {
            "access_key_id": credentials.access_key,
            "secret_access_key": credentials.secret_key,
            "token": None,
            "expires_at": None,
        }

    endpoint = endpoint_of(credentials)
    return S3Store(
        bucket,
        endpoint=endpoint,
        aws_endpoint_url_s3=endpoint,
        region=credentials.region,
        virtual_hosted_style_request=False,
        skip_signature=not credentials.access_key,
        unsigned_payload=endpoint.startswith("https://"),
        client_options={
            "allow_http": True,
            "allow_invalid_certificates": not credentials.verify,
            "connect_timeout": CONNECT_TIMEOUT,
            "read_timeout": READ_TIMEOUT,
            "timeout": _WHOLE_REQUEST,
        },
        retry_config={
            "max_retries": _MAX_RETRIES,
            "retry_timeout": _RETRY_TIMEOUT,
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
        },
        credential_provider=keys,
    )


class LazyClient:
    """aiobotocore's client, made when it is first asked for and closed with its owner."""

    def __init__(self, credentials: S3Credentials, stack: AsyncExitStack) -> None:
        self._credentials = credentials
        self._stack = stack
        self._lock = asyncio.Lock()
        self._client: Any = None

    async def get(self) -> Any:
        """The client. Typed `Any`: botocore makes its methods from data."""
        async with self._lock:
            if self._client is None:
                context = await asyncio.to_thread(_client_context, self._credentials)
                self._client = await self._stack.enter_async_context(context)
        return self._client


def _client_context(credentials: S3Credentials) -> Any:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session
    from botocore import UNSIGNED

    config = AioConfig(
        signature_version="s3v4" if credentials.access_key else UNSIGNED,
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=CONNECT_TIMEOUT.total_seconds(),
        read_timeout=READ_TIMEOUT.total_seconds(),
        retries={"total_max_attempts": _MAX_RETRIES, "mode": "standard"},
        max_pool_connections=_POOL_SIZE,
    )
    return get_session().create_client(
        "s3",
        endpoint_url=endpoint_of(credentials),
        region_name=credentials.region,
        aws_access_key_id=credentials.access_key or None,
        aws_secret_access_key=credentials.secret_key or None,
        verify=credentials.verify,
        config=config,
    )
