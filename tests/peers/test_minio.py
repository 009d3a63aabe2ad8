"""MinIO as the store: what its server really sends to `POST /events`, and what it keeps while nobody answers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiobotocore.session
import pytest

from tests.integration.storage_bridge.platform import Platform, bridge, eventually, platform
from tests.integration.storage_bridge.test_faults import healthy
from tests.servers import Running, missing, wait_until_answers
from tidemill.platform.servers import free_port
from tidemill_common.contracts.event import EventReceived
from tidemill_common.secrets import S3Credentials

pytestmark = pytest.mark.peers

PROGRAM = Path(__file__).parents[2] / ".cache" / "bin" / "minio"
ARN = "arn:minio:sqs::TIDEMILL:webhook"
KEYS = ("plain.txt", "with space.txt", "cat+1 & 2=%25.png", "grüße/日本.txt", "a:b;c,d'e(f)!.txt")
PART = 5 * 1024 * 1024


@dataclass(frozen=True)
class Minio:
    """A running MinIO, and the port where it expects the bridge."""

    credentials: S3Credentials
    hook_port: int


@contextmanager
def minio_server(directory: Path) -> Iterator[Minio]:
    """MinIO on loopback with a webhook target, whose queue survives what it cannot deliver."""
    if not PROGRAM.is_file():
        missing("minio (tests/peers/install.sh)")
    port, hook_port = free_port(), free_port()
    endpoint, log = f"http://127.0.0.1:{port}", directory / "minio.log"
    environment = {
        **os.environ,
        "MINIO_ROOT_USER": "testkey",
        "MINIO_ROOT_PASSWORD": "testsecret",
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
        "MINIO_CALLHOME_ENABLE": "off",
        "MINIO_NOTIFY_WEBHOOK_ENABLE_TIDEMILL": "on",
        "MINIO_NOTIFY_WEBHOOK_ENDPOINT_TIDEMILL": f"http://127.0.0.1:{hook_port}/events",
        "MINIO_NOTIFY_WEBHOOK_AUTH_TOKEN_TIDEMILL": "Bearer secret-token",
        "MINIO_NOTIFY_WEBHOOK_QUEUE_DIR_TIDEMILL": str(directory / "queue"),
    }
    (directory / "queue").mkdir()
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(PROGRAM), "server", "--address", f"127.0.0.1:{port}", str(directory / "data")],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until_answers(f"{endpoint}/minio/health/ready", process, log)
        yield Minio(S3Credentials(endpoint=endpoint, access_key="testkey", secret_key="testsecret"), hook_port)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def minio(tmp_path: Path) -> Iterator[Minio]:
    with minio_server(tmp_path) as running:
        yield running


@pytest.fixture
async def place(nats: Running, seaweed: Running, tmp_path: Path) -> AsyncIterator[Platform]:
    async with platform(nats, seaweed, tmp_path) as made:
        yield made


@pytest.fixture
def lab() -> str:
    """A bucket of this test's own: the bus is the module's."""
    return f"lab-{uuid4().hex[:8]}"


@pytest.fixture
async def client(minio: Minio, lab: str) -> AsyncIterator[Any]:
    """An S3 client, with a bucket that notifies."""
    keys = minio.credentials
    async with aiobotocore.session.get_session().create_client(
        "s3",
        endpoint_url=keys.endpoint,
        aws_access_key_id=keys.access_key,
        aws_secret_access_key=keys.secret_key,
        region_name="us-east-1",
    ) as opened:
        await opened.create_bucket(Bucket=lab)
        await opened.put_bucket_notification_configuration(
            Bucket=lab,
            NotificationConfiguration={
                "QueueConfigurations": [
                    {"QueueArn": ARN, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]},
                ]
            },
        )
        yield opened


def _listening(place: Platform, minio: Minio) -> Any:
    return bridge(place.settings.model_copy(update={"port": minio.hook_port, "seaweedfs": None}))


def _paths(events: list[EventReceived]) -> list[str]:
    return [event.artifact.path for event in events if event.artifact is not None]


async def test_every_key_arrives_as_it_was_written(place: Platform, minio: Minio, client: Any, lab: str) -> None:
    await place.apply(lab, f"{lab}/in")
    async with _listening(place, minio):
        await eventually(lambda: healthy(minio.hook_port))
        for key in KEYS:
            await client.put_object(Bucket=lab, Key=f"in/{key}", Body=key.encode())
        events = await place.until_events(lab, len(KEYS))
        await place.until_waiting(lab, len(KEYS))
    assert sorted(_paths(events)) == sorted(f"{lab}/in/{key}" for key in KEYS)
    for event in events:
        assert event.artifact is not None
        found = await client.head_object(Bucket=lab, Key=event.artifact.path.removeprefix(f"{lab}/"))
        assert event.artifact.etag == found["ETag"].strip('"')
    assert len(await place.work(lab, len(KEYS))) == len(KEYS)


async def test_parts_copies_and_removals_are_one_event_each(
    place: Platform, minio: Minio, client: Any, lab: str
) -> None:
    await place.apply(lab, f"{lab}/in")
    async with _listening(place, minio):
        await eventually(lambda: healthy(minio.hook_port))
        upload = await client.create_multipart_upload(Bucket=lab, Key="in/large")
        ids = {"Bucket": lab, "Key": "in/large", "UploadId": upload["UploadId"]}
        parts = [
            {"PartNumber": n, "ETag": (await client.upload_part(**ids, PartNumber=n, Body=b"." * PART))["ETag"]}
            for n in (1, 2)
        ]
        await client.complete_multipart_upload(**ids, MultipartUpload={"Parts": parts})
        await client.copy_object(Bucket=lab, Key="in/copy", CopySource={"Bucket": lab, "Key": "in/large"})
        await client.delete_object(Bucket=lab, Key="in/copy")
        events = await place.until_events(lab, 3)
        invocations = await place.work(lab, 2)
    assert sorted(_paths(events)) == [f"{lab}/in/copy", f"{lab}/in/copy", f"{lab}/in/large"]
    paths = [invocation.event.artifact and invocation.event.artifact.path for invocation in invocations]
    assert sorted(map(str, paths)) == [f"{lab}/in/copy", f"{lab}/in/large"]


async def test_what_was_uploaded_while_the_bridge_was_away_runs_once(
    place: Platform, minio: Minio, client: Any, lab: str
) -> None:
    await place.apply(lab, f"{lab}/in")
    for number in range(20):
        await client.put_object(Bucket=lab, Key=f"in/{number}", Body=b"early")
    async with _listening(place, minio):
        await place.until_waiting(lab, 20)
        assert len(await place.work(lab, 20)) == 20
    assert len(await place.events(lab)) == 20
