"""What a definition must pass beyond being well formed: its image, its buckets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tidemill_common.contracts import MAX_BODY_BYTES
from tidemill_common.contracts.service import Service
from tidemill_common.errors import InvalidInputError
from tidemill_gateway.catalogue.errors import BucketRefusedError, ImageRefusedError, VolumeChangedError
from tidemill_gateway.catalogue.folders import buckets_of

_VOLUME: Final = "volume"
_MOST_BYTES: Final = MAX_BODY_BYTES - 1024
"""Leaves room for what is around a definition on the bus."""


def check_image(image: str, allowed: Sequence[str]) -> None:
    """Enforce the allowed repositories by OSCAR's rule: some entry is part of the image; no entries: all are allowed.

    Raises:
        ImageRefusedError: None is.
    """
    if allowed and not any(entry in image for entry in allowed):
        raise ImageRefusedError(
            f"image {image} is not allowed for pull on the cluster. Allowed repositories: {', '.join(allowed)}"
        )


def check_buckets(service: Service, *, system_bucket: str) -> None:
    """Keep Services out of the platform's own bucket.

    Raises:
        BucketRefusedError: An input or output is in it.
    """
    if system_bucket in buckets_of(service):
        raise BucketRefusedError(f"the bucket {system_bucket!r} is the platform's own; choose another")


def check_update(before: Service, after: Service) -> None:
    """Refuse what OSCAR refuses to change.

    Raises:
        VolumeChangedError: The volume differs.
    """
    if after.extra.get(_VOLUME) != before.extra.get(_VOLUME):
        raise VolumeChangedError("volume updates are not supported after service creation")


def check_size(service: Service) -> None:
    """Refuse a definition that cannot travel.

    Raises:
        InvalidInputError: It is too large; the script nearly always is why.
    """
    if (size := len(service.encode())) > _MOST_BYTES:
        raise InvalidInputError(
            f"the definition has {size} bytes, at most {_MOST_BYTES} are allowed; put large scripts into the image"
        )
