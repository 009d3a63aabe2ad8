"""The catalogue: which Services there are, what they were, and the buckets made for them."""

from __future__ import annotations

from tidemill_gateway.catalogue.bucket_rows import Bucket, BucketRows
from tidemill_gateway.catalogue.buckets import Buckets
from tidemill_gateway.catalogue.catalogue import ADMIN, Catalogue, CatalogueRules
from tidemill_gateway.catalogue.definition import Definition, Revision
from tidemill_gateway.catalogue.errors import BucketRefusedError, ImageRefusedError, NameTakenError
from tidemill_gateway.catalogue.opening import open_catalogue

__all__ = [
    "ADMIN",
    "Bucket",
    "BucketRefusedError",
    "BucketRows",
    "Buckets",
    "Catalogue",
    "CatalogueRules",
    "Definition",
    "ImageRefusedError",
    "NameTakenError",
    "Revision",
    "open_catalogue",
]
