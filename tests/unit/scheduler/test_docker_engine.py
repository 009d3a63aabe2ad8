"""No error of aiodocker or aiohttp leaves the adapter, and each says whether trying again can help."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from aiodocker.exceptions import (
    DockerContainerError,
    DockerContextError,
    DockerContextInvalidError,
    DockerContextTLSError,
    DockerError,
    DockerStreamError,
)

from tidemill_common.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    TidemillError,
    UnavailableError,
)
from tidemill_scheduler.launchers.docker.engine import DockerEngine, open_engine

ERRORS: list[tuple[Exception, type[TidemillError]]] = [
    (DockerError(400, "bad parameter"), InvalidInputError),
    (DockerError(401, "who are you"), AccessDeniedError),
    (DockerError(403, "no"), AccessDeniedError),
    (DockerError(404, "no such container"), NotFoundError),
    (DockerError(409, "name is taken"), ConflictError),
    (DockerError(500, "ill"), UnavailableError),
    (DockerError(900, "cannot connect"), UnavailableError),
    (DockerContainerError(500, "ill", "c1"), UnavailableError),
    (DockerStreamError("denied"), InvalidInputError),
    (DockerContextError("no such context"), UnavailableError),
    (DockerContextInvalidError("no such context"), UnavailableError),
    (DockerContextTLSError("no such key"), UnavailableError),
    (TimeoutError(), UnavailableError),
    (aiohttp.ClientPayloadError("cut off"), UnavailableError),
    (aiohttp.ServerDisconnectedError(), UnavailableError),
]


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[DockerEngine]:
    engine = open_engine(f"unix://{tmp_path}/no.sock", timeout=timedelta(seconds=5))
    yield engine
    await engine.close()


@pytest.mark.parametrize(("error", "kind"), ERRORS, ids=lambda value: str(value)[:40])
async def test_an_error_becomes_ours(engine: DockerEngine, error: Exception, kind: type[TidemillError]) -> None:
    with pytest.raises(TidemillError, match=r"^start x: ") as raised, engine._translated("start x"):
        raise error

    assert type(raised.value) is kind
    assert raised.value.__cause__ is error


def test_every_error_of_the_library_was_thought_of() -> None:
    def below(kind: type[Exception]) -> set[type[Exception]]:
        return {kind}.union(*(below(other) for other in kind.__subclasses__()))

    assert below(DockerError) <= {type(error) for error, _ in ERRORS}


async def test_a_host_that_is_not_there_says_where_it_was_looked_for(engine: DockerEngine, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=rf"ask Docker: .*{tmp_path}/no\.sock"):
        await engine.info()


async def test_a_wrong_address_stops_the_start() -> None:
    with pytest.raises(InvalidInputError, match="address of Docker"):
        open_engine("nonsense", timeout=timedelta(seconds=5))


async def test_docker_host_stands_above_the_context_as_for_the_docker_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text('{"currentContext": "elsewhere"}')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", "unix:///chosen.sock")
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)

    engine = open_engine(None, timeout=timedelta(seconds=5))

    assert engine.address == "unix:///chosen.sock"
    await engine.close()
