"""Exposed Services as containers of a real Docker daemon."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.testbed.docker import BUSYBOX, DockerHost
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.exposed import Wish
from tidemill_common.contracts.service import Expose, Service
from tidemill_common.secrets import MemorySecretStore, SecretRecord
from tidemill_scheduler.exposing.docker.containers import Site
from tidemill_scheduler.exposing.docker.exposer import DockerExposer
from tidemill_scheduler.exposing.docker.keeper import Tools
from tidemill_scheduler.exposing.domain import Exposure
from tidemill_scheduler.launchers.docker.engine import open_engine
from tidemill_scheduler.launchers.docker.images import Images
from tidemill_scheduler.launchers.docker.settings import DockerSettings

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]

SERVER = """#!/bin/sh
mkdir -p /tmp/www/cgi-bin
echo "$GREETING $KEY" > /tmp/www/index.html
printf '#!/bin/sh\\necho; hostname\\n' > /tmp/www/cgi-bin/host; chmod 755 /tmp/www/cgi-bin/host
printf '#!/bin/sh\\nkill -9 -1\\n' > /tmp/www/cgi-bin/die; chmod 755 /tmp/www/cgi-bin/die
echo "serving"
exec httpd -f -p 8000 -h /tmp/www
"""


@dataclass
class Host:
    """An installation of its own on the daemon."""

    docker: DockerHost
    directory: Path
    installation: str = field(default_factory=lambda: secrets.token_hex(4))
    store: MemorySecretStore = field(default_factory=MemorySecretStore)

    def exposer(self) -> DockerExposer:
        """As another scheduler process would have it."""
        engine = open_engine(self.docker.address, timeout=timedelta(seconds=30))
        return DockerExposer(
            Tools(
                engine=engine,
                images=Images(engine, "never"),
                secrets=self.store,
                site=Site(
                    scripts=self.directory / "scripts", installation=self.installation, settings=DockerSettings()
                ),
                grace=2,
                on_change=lambda: None,
            )
        )

    def containers(self) -> list[str]:
        """Ids of ours."""
        label = f"label=tidemill.io/exposed-installation={self.installation}"
        return self.docker.docker("ps", "-aq", "--filter", label).split()


def exposure(*, script: str = SERVER, image: str = BUSYBOX, **expose: Any) -> Exposure:
    """One of busybox's httpd."""
    block = Expose(**{"api_port": (8000,), "min_scale": 1, "health_path": "/index.html", **expose})
    service = Service(
        name=ServiceName("web"), image=image, script=script, cpu="0.5", variables={"GREETING": "hello"}, expose=block
    )
    return Exposure(service=service, expose=block, revision=1)


@pytest.fixture
async def host(docker_host: DockerHost, tmp_path: Path) -> AsyncIterator[Host]:
    """One whose containers are removed."""
    if docker_host.network == "none":
        pytest.skip("this machine cannot have bridges, so nothing can be published")
    found = Host(docker_host, tmp_path)
    found.store.records["web"] = SecretRecord(environment={"KEY": "s3cret"})
    try:
        yield found
    finally:
        if left := found.containers():
            docker_host.docker("rm", "-f", *left)


@contextlib.asynccontextmanager
async def opened(host: Host) -> AsyncIterator[DockerExposer]:
    """An exposer that leads."""
    exposer = host.exposer()
    await exposer.adopt()
    try:
        yield exposer
    finally:
        await exposer.close()


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for it."""
    try:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}") from None


async def until_active(exposer: DockerExposer, count: int) -> tuple[str, ...]:
    """Where they answer."""
    try:
        await until(lambda: exposer.observe(ServiceName("web")).active == count, f"{count} answer")
    except AssertionError as error:
        raise AssertionError(f"{error}: {exposer.observe(ServiceName('web'))}") from error
    return exposer.observe(ServiceName("web")).urls


async def asked(url: str, path: str) -> str:
    """What is answered."""
    async with httpx.AsyncClient(timeout=30) as client:
        return (await client.get(url + path)).text.strip()


async def test_instances_answer_with_the_users_variables_and_secrets(host: Host) -> None:
    async with opened(host) as exposer:
        await exposer.ensure(exposure(min_scale=2))
        urls = await until_active(exposer, 2)
        assert {await asked(url, "/index.html") for url in urls} == {"hello s3cret"}
        assert len({await asked(url, "/cgi-bin/host") for url in urls}) == 2
        lines = await exposer.logs(ServiceName("web"), 10)
        assert [line.text for line in lines] == ["serving", "serving"]
        assert all(line.at is not None for line in lines)


async def test_an_instance_that_dies_is_started_again(host: Host) -> None:
    async with opened(host) as exposer:
        await exposer.ensure(exposure())
        (before,) = await until_active(exposer, 1)
        host.docker.docker("kill", *host.containers())
        await until(lambda: exposer.observe(ServiceName("web")).urls not in ((before,), ()), "another one answers")


async def test_another_scheduler_adopts_what_runs_and_stop_ends_it(host: Host) -> None:
    async with opened(host) as exposer:
        await exposer.ensure(exposure())
        urls = await until_active(exposer, 1)
        before = host.containers()
    async with opened(host) as other:
        assert other.services() == {"web"}
        await other.ensure(exposure())
        assert await until_active(other, 1) == urls
        assert host.containers() == before
        await other.ensure(replace(exposure(), wish=Wish(stopped=True)))
        assert host.containers() == []


async def test_another_version_replaces_the_instances(host: Host) -> None:
    async with opened(host) as exposer:
        await exposer.ensure(exposure())
        await until_active(exposer, 1)
        before = host.containers()
        await exposer.ensure(replace(exposure(script=SERVER.replace("hello", "bye")), revision=2))
        await until_active(exposer, 1)
        assert not set(before) & set(host.containers())


async def test_what_is_wrong_is_told(host: Host) -> None:
    async with opened(host) as exposer:
        await exposer.ensure(exposure(script="#!/bin/sh\nexit 7\n"))
        await until(lambda: exposer.observe(ServiceName("web")).is_broken, "it is broken")
        assert exposer.observe(ServiceName("web")).reason == "ended with exit code 7"
        await exposer.ensure(replace(exposure(image="localhost/none:1"), revision=2))
        await until(lambda: "not there" in exposer.observe(ServiceName("web")).reason, "the image is missed")
