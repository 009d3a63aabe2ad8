"""The same on a real S3 store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract.storage.suite import ObjectStoreContract, credentials_of
from tests.servers import Running
from tidemill_common.storage import ObjectStore
from tidemill_common.storage.opening import open_buckets, open_store


@pytest.mark.integration
class TestS3ObjectStore(ObjectStoreContract):
    in_byte_order = False

    @pytest.fixture
    async def store(self, seaweed: Running) -> AsyncIterator[ObjectStore]:
        credentials = credentials_of(seaweed)
        async with open_buckets(credentials) as buckets, open_store("minio.test", credentials.model_dump()) as store:
            await buckets.create_bucket("data")
            yield store
            await buckets.delete_bucket("data")
