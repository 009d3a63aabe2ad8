"""Creating, updating and removing Services: what SQL, the bus, the stores and the secrets have afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.gateway.catalogue.platforms import Platform, definition
from tidemill_common.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from tidemill_gateway.catalogue import BucketRefusedError, ImageRefusedError, NameTakenError
from tidemill_gateway.catalogue.errors import VolumeChangedError


async def create(platform: Platform, name: str = "edge-blur", **fields: Any) -> None:
    await platform.catalogue.create(definition(name, **fields), who="oscar")


async def update(platform: Platform, name: str = "edge-blur", **fields: Any) -> None:
    await platform.catalogue.update(definition(name, **fields), who="oscar")


async def environment(platform: Platform, name: str = "edge-blur") -> dict[str, str]:
    record = await platform.secrets.get(name)
    assert record is not None
    return {key: value for key, value in record.environment.items() if key != "OSCAR_SERVICE_TOKEN"}


async def test_a_created_service_is_in_sql_on_the_bus_and_in_memory(platform: Platform) -> None:
    made = await platform.catalogue.create(definition(), who="oscar")

    assert made.revision == 1
    assert len(made.token) == 64
    assert set(made.token) <= set("0123456789abcdef")
    assert await platform.catalogue.get("edge-blur") == made
    assert (await platform.definitions())["edge-blur"] == made.published()
    assert platform.catalogue.get_cached("edge-blur") == made.service
    assert made.service.owner == "cluster_admin"
    assert made.service.namespace == "oscar-svc"


async def test_only_its_own_token_opens_a_service(platform: Platform) -> None:
    made = await platform.catalogue.create(definition(), who="oscar")
    other = await platform.catalogue.create(definition("other"), who="oscar")

    assert platform.catalogue.service_of_token("edge-blur", made.token) == made.service
    assert platform.catalogue.service_of_token("edge-blur", other.token) is None
    assert platform.catalogue.service_of_token("edge-blur", "gar bâge") is None
    assert platform.catalogue.service_of_token("nobody", made.token) is None


async def test_buckets_and_folder_markers_are_made(platform: Platform) -> None:
    await create(platform)

    assert await platform.stores.own.buckets() == ["edge-blur", "tidemill"]
    assert await platform.stores.own.get("edge-blur/in/") == b""
    assert await platform.stores.own.get("edge-blur/out/") == b""
    tags = await platform.stores.own.tags("edge-blur")
    assert tags == {"owner": "oscar", "owner_name": "oscar", "from_service": "edge-blur"}


async def test_a_pipeline_shares_buckets(platform: Platform) -> None:
    await create(platform, "cut", output=[{"path": "cut/frames"}])
    await create(platform, "tag", input=[{"path": "cut/frames"}], output=[{"path": "cut/tags"}])

    assert await platform.stores.own.head("cut/tags/") is not None


async def test_an_existing_bucket_keeps_its_objects(platform: Platform) -> None:
    await platform.stores.own.create_bucket("edge-blur")
    await platform.stores.own.put("edge-blur/in/", b"")
    await platform.stores.own.put("edge-blur/in/old.png", b"old")

    await create(platform)

    assert await platform.stores.own.get("edge-blur/in/old.png") == b"old"


async def test_a_bucket_of_somebody_else_is_refused(platform: Platform) -> None:
    await platform.stores.own.create_bucket("edge-blur")
    await platform.stores.own.set_tags("edge-blur", {"owner": "ann"})

    with pytest.raises(BucketRefusedError, match="belongs to another user"):
        await create(platform)
    assert await platform.catalogue.get("edge-blur") is None
    assert await platform.secrets.get("edge-blur") is None


async def test_a_bucket_of_another_account_is_refused(platform: Platform) -> None:
    platform.stores.own.foreign = frozenset({"edge-blur"})

    with pytest.raises(BucketRefusedError, match="another account"):
        await create(platform)


async def test_the_platforms_own_bucket_is_refused(platform: Platform) -> None:
    with pytest.raises(BucketRefusedError, match="platform's own"):
        await create(platform, input=[{"path": "tidemill/payloads"}])


async def test_folders_of_other_s3_providers_are_made_with_the_users_credentials(platform: Platform) -> None:
    fields = {"access_key": "THEIRS", "secret_key": "S", "region": "eu-west-1"}
    await create(
        platform,
        output=[{"storage_provider": "s3.archive", "path": "acme/results"}],
        storage_providers={"s3": {"archive": fields}},
    )

    assert platform.stores.fields["s3.archive"] == fields
    assert await platform.stores.others["s3.archive"].head("acme/results/") is not None
    assert await platform.stores.own.buckets() == ["edge-blur", "tidemill"]


async def test_secrets_are_neither_in_sql_nor_on_the_bus(platform: Platform) -> None:
    await create(
        platform,
        environment={"secrets": {"API_KEY": "s3cr3t"}},
        output=[{"storage_provider": "s3.archive", "path": "acme/results"}],
        storage_providers={"s3": {"archive": {"access_key": "THEIRS", "secret_key": "s3cr3t"}}},
    )

    told = (await platform.definitions())["edge-blur"].encode()
    kept = repr(await platform.catalogue.revisions("edge-blur")) + repr(await platform.catalogue.get("edge-blur"))
    assert b"s3cr3t" not in told
    assert "s3cr3t" not in kept
    assert await environment(platform) == {"API_KEY": "s3cr3t"}


async def test_user_code_gets_the_token_as_a_secret(platform: Platform) -> None:
    made = await platform.catalogue.create(definition(), who="oscar")

    record = await platform.secrets.get("edge-blur")
    assert record is not None
    assert record.environment == {"OSCAR_SERVICE_TOKEN": made.token}


async def test_a_taken_name_is_refused_and_nothing_changes(platform: Platform) -> None:
    made = await platform.catalogue.create(definition(environment={"secrets": {"A": "1"}}), who="oscar")

    with pytest.raises(NameTakenError, match="A service with the provided name already exists"):
        await create(platform, environment={"secrets": {"A": "2"}})
    assert await platform.catalogue.get("edge-blur") == made
    assert await environment(platform) == {"A": "1"}


async def test_images_from_elsewhere_are_refused(platform: Platform) -> None:
    await platform.catalogue.settings.allow_repositories(["ghcr.io", "docker.io/acme"])

    await create(platform)
    with pytest.raises(ImageRefusedError, match="image evil is not allowed"):
        await create(platform, "other", image="evil")
    with pytest.raises(ImageRefusedError):
        await update(platform, image="evil")


async def test_a_definition_too_large_for_the_bus_is_refused(platform: Platform) -> None:
    with pytest.raises(InvalidInputError, match="at most"):
        await create(platform, script="x" * 70_000)


async def test_a_store_that_is_away_leaves_nothing_behind(platform: Platform) -> None:
    platform.stores.own.failure = UnavailableError("away")

    with pytest.raises(UnavailableError):
        await create(platform)
    assert await platform.secrets.get("edge-blur") is None
    assert await platform.definitions() == {}

    platform.stores.own.failure = None
    await create(platform)


async def test_an_update_keeps_token_and_owner_and_counts_up(platform: Platform) -> None:
    made = await platform.catalogue.create(definition(), who="oscar")

    changed = await platform.catalogue.update(definition(cpu="1", owner="mallory", token="0" * 64), who="ann")

    assert (changed.token, changed.service.owner, changed.revision) == (made.token, "cluster_admin", 2)
    assert changed.created_at == made.created_at
    assert (await platform.definitions())["edge-blur"] == changed.published()
    newest = (await platform.catalogue.revisions("edge-blur"))[0]
    assert (newest.number, newest.who, newest.changed) == (2, "ann", ("cpu",))
    assert platform.catalogue.get_cached("edge-blur") == changed.service


async def test_the_same_definition_again_is_no_revision(platform: Platform) -> None:
    await create(platform, environment={"secrets": {"A": "1"}})

    await update(platform, environment={"secrets": {"A": "1"}})

    assert [revision.number for revision in await platform.catalogue.revisions("edge-blur")] == [1]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"A": "", "B": ""}, {"A": "1", "B": "2"}),
        ({"A": "new", "B": ""}, {"A": "new", "B": "2"}),
        ({"A": ""}, {"A": "1"}),
        ({}, {}),
    ],
)
async def test_blank_secrets_are_kept_and_omitted_ones_removed(
    platform: Platform, sent: dict[str, str], kept: dict[str, str]
) -> None:
    await create(platform, environment={"secrets": {"A": "1", "B": "2"}})

    await update(platform, environment={"secrets": sent})

    assert await environment(platform) == kept


async def test_a_changed_secret_is_a_revision_that_does_not_tell_it(platform: Platform) -> None:
    await create(platform, environment={"secrets": {"A": "1"}})

    await update(platform, environment={"secrets": {"A": "2"}})

    newest = (await platform.catalogue.revisions("edge-blur"))[0]
    assert (newest.number, newest.changed) == (2, ("environment.secrets",))


async def test_an_update_makes_new_folders_in_buckets_that_exist(platform: Platform) -> None:
    await create(platform)

    await update(platform, output=[{"path": "edge-blur/elsewhere"}])

    assert await platform.stores.own.head("edge-blur/elsewhere/") is not None


async def test_a_volume_cannot_change(platform: Platform) -> None:
    await create(platform)

    with pytest.raises(VolumeChangedError):
        await update(platform, volume={"name": "models", "mount_path": "/data"})


async def test_updating_nothing_is_not_found(platform: Platform) -> None:
    with pytest.raises(NotFoundError):
        await update(platform)


async def test_a_removed_service_leaves_its_data(platform: Platform) -> None:
    await create(platform)
    await platform.stores.own.put("edge-blur/out/a.png", b"a")

    await platform.catalogue.remove("edge-blur", who="oscar")

    assert await platform.catalogue.get("edge-blur") is None
    assert platform.catalogue.get_cached("edge-blur") is None
    assert await platform.secrets.get("edge-blur") is None
    assert (await platform.definitions())["edge-blur"].service is None
    assert await platform.stores.own.get("edge-blur/out/a.png") == b"a"


async def test_revisions_go_on_after_removal(platform: Platform) -> None:
    first = await platform.catalogue.create(definition(), who="oscar")
    await platform.catalogue.remove("edge-blur", who="oscar")

    again = await platform.catalogue.create(definition(), who="oscar")

    assert again.revision == 3
    assert again.token != first.token
    history = await platform.catalogue.revisions("edge-blur")
    assert [(revision.number, revision.removed) for revision in history] == [(3, False), (2, True), (1, False)]


async def test_the_slower_of_two_replicas_is_told_so(platform: Platform) -> None:
    await create(platform)
    mine = await platform.catalogue.get("edge-blur")
    assert mine is not None
    await update(platform, cpu="1")

    revision = (await platform.catalogue.revisions("edge-blur"))[0]
    with pytest.raises(ConflictError):
        await platform.catalogue._rows.replace(mine, revision, expected=mine.revision)
