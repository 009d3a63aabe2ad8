"""S3 stores (AWS, MinIO, SeaweedFS, Ceph, …), measured and divided by what each library does best.

Bodies and small requests go through obstore (Rust; two to three times the requests per second of a Python client);
what needs exact control (multipart uploads that must be aborted, listings, odd keys, buckets) through aiobotocore,
which is loaded when it is first needed.
"""

from __future__ import annotations

from tidemill_common.storage.s3.buckets import S3BucketStore
from tidemill_common.storage.s3.objects import S3ObjectStore

__all__ = ["S3BucketStore", "S3ObjectStore"]
