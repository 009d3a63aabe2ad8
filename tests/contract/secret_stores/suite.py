"""What every SecretStore does; subclassed for each adapter."""

from __future__ import annotations

from tidemill_common.secrets import PLATFORM, SecretRecord, SecretStore

_RECORD = SecretRecord(
    environment={"TOKEN": "t-1", "TEXT": "a line\nand ünïcode"},
    providers={
        "minio.default": {"endpoint": "http://store:8333", "access_key": "a", "secret_key": "b", "verify": False}
    },
)


class SecretStoreContract:
    """Needs a fixture `store`."""

    async def test_what_was_put_is_read_back(self, store: SecretStore) -> None:
        await store.put("grey", _RECORD)
        assert await store.get("grey") == _RECORD

    async def test_a_record_that_is_not_there_is_none(self, store: SecretStore) -> None:
        assert await store.get("nobody") is None

    async def test_putting_again_replaces_the_whole_record(self, store: SecretStore) -> None:
        await store.put("grey", _RECORD)
        await store.put("grey", SecretRecord(environment={"OTHER": "1"}))
        assert await store.get("grey") == SecretRecord(environment={"OTHER": "1"})

    async def test_removing_twice_is_the_same_as_once(self, store: SecretStore) -> None:
        await store.put("grey", _RECORD)
        await store.remove("grey")
        await store.remove("grey")
        assert await store.get("grey") is None

    async def test_the_platforms_record_is_apart_from_every_services(self, store: SecretStore) -> None:
        await store.put(PLATFORM, _RECORD)
        await store.put("grey", SecretRecord())
        await store.remove("grey")
        assert await store.get(PLATFORM) == _RECORD
        await store.remove(PLATFORM)
