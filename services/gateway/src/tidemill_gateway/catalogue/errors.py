"""Refusals of the catalogue that a client is told apart."""

from __future__ import annotations

from tidemill_common.errors import AccessDeniedError, ConflictError, InvalidInputError


class NameTakenError(ConflictError):
    """A Service or bucket of this name is there already."""


class ImageRefusedError(AccessDeniedError):
    """The image is from none of the allowed repositories."""


class BucketRefusedError(AccessDeniedError):
    """The bucket belongs to somebody else, or to the platform."""


class VolumeChangedError(InvalidInputError):
    """A volume cannot change after creation (OSCAR contract 3.6)."""
