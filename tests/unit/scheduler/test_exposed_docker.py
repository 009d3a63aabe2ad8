"""Exposed Services as containers, over an Engine that answers or does not: nothing is forgotten, or taken twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.service import Expose, Service
from tidemill_common.errors import UnavailableError
from tidemill_common.secrets import MemorySecretStore
from tidemill_scheduler.exposing.docker.containers import Site
from tidemill_scheduler.exposing.docker.exposer import DockerExposer
from tidemill_scheduler.exposing.docker.keeper import Pulls, Tools
from tidemill_scheduler.exposing.domain import Exposure
from tidemill_scheduler.launchers.docker.engine import ContainerState
from tidemill_scheduler.launchers.docker.settings import DockerSettings

WEB = ServiceName("web")


class MemoryEngine:
    """Containers in memory. Each request that is named in `refusals` fails once."""

    def __init__(self) -> None:
        self.running: dict[str, ContainerState] = {}
        self.refusals: list[str] = []

    async def run(self, name: str, config: Mapping[str, Any]) -> None:
        self.running[name] = ContainerState(name=name, labels=config["Labels"], is_running=True)

    async def stop(self, name: str, grace: float) -> None:
        self._answer("stop")
        self.running.pop(name, None)

    async def inspect(self, name: str) -> ContainerState | None:
        self._answer(f"inspect {name}")
        return self.running.get(name)

    async def containers(self, label: str) -> Sequence[str]:
        return sorted(self.running)

    async def output(self, name: str, lines: int) -> str:
        return ""

    async def close(self) -> None: ...

    def _answer(self, request: str) -> None:
        if request in self.refusals:
            self.refusals.remove(request)
            raise UnavailableError("Docker does not answer")


class NoPulls:
    """All images are there."""

    async def ensure(self, image: str) -> None: ...

    async def close(self) -> None: ...


@pytest.fixture(autouse=True)
def _silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No instance ever answers."""

    async def answers(*_: object, **__: object) -> bool:
        await asyncio.Event().wait()
        return False

    monkeypatch.setattr("tidemill_scheduler.exposing.docker.keeper.answers", answers)


@pytest.fixture
async def engine() -> MemoryEngine:
    return MemoryEngine()


@pytest.fixture
async def exposer(engine: MemoryEngine, tmp_path: Path) -> AsyncIterator[DockerExposer]:
    site = Site(scripts=tmp_path, installation="x", settings=DockerSettings())
    made = DockerExposer(
        Tools(
            engine=engine,
            images=cast(Pulls, NoPulls()),
            secrets=MemorySecretStore(),
            site=site,
            grace=0,
            on_change=lambda: None,
        )
    )
    yield made
    await made.release()


def exposure(*, revision: int = 1) -> Exposure:
    expose = Expose(api_port=(80,), min_scale=2)
    return Exposure(
        service=Service(name=WEB, image="web:1", script="serve", expose=expose), expose=expose, revision=revision
    )


def running(engine: MemoryEngine, *, revision: int = 1, count: int = 2) -> None:
    """Containers that an earlier scheduler started."""
    for number in range(count):
        name = f"exposed-web-{revision}-{number}"
        labels = {
            "tidemill.io/service": WEB,
            "tidemill.io/version": exposure(revision=revision).version,
            "tidemill.io/port": "1",
        }
        engine.running[name] = ContainerState(name=name, labels=labels, is_running=True)


async def refused_once(engine: MemoryEngine, exposer: DockerExposer) -> None:
    """Two containers are kept, and Docker will not stop the first that it is asked to."""
    running(engine)
    await exposer.adopt()
    await exposer.ensure(exposure())
    engine.refusals = ["stop"]


async def test_what_could_not_be_stopped_is_stopped_when_docker_is_back(
    engine: MemoryEngine, exposer: DockerExposer
) -> None:
    await refused_once(engine, exposer)

    with pytest.raises(UnavailableError):
        await exposer.remove(WEB)
    assert exposer.services() == {WEB}
    await exposer.remove(WEB)

    assert engine.running == {}
    assert exposer.services() == set()


async def test_no_container_of_an_old_version_is_forgotten_while_docker_is_away(
    engine: MemoryEngine, exposer: DockerExposer
) -> None:
    await refused_once(engine, exposer)

    with pytest.raises(UnavailableError):
        await exposer.ensure(exposure(revision=2))
    await exposer.ensure(exposure(revision=2))

    assert not [name for name in engine.running if name.startswith("exposed-web-1-")]


async def test_no_container_is_taken_twice_when_docker_stops_answering_in_between(
    engine: MemoryEngine, exposer: DockerExposer
) -> None:
    running(engine)
    engine.refusals = ["inspect exposed-web-1-1"]
    with pytest.raises(UnavailableError):
        await exposer.adopt()

    await exposer.adopt()
    await exposer.ensure(exposure())

    assert sorted(keeper.name for keeper in exposer._keepers[WEB]) == ["exposed-web-1-0", "exposed-web-1-1"]
