"""The Docker Engine in our words: containers and images by name, errors as ours, events as an iterator.

aiodocker's own events helper ends for ever with the first lost connection and hides why, its pull ends quietly when the
connection breaks, and without a socket it fails an assertion: all three are handled here, and no type of it leaves.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerContextError, DockerError, DockerStreamError

from tidemill_common.errors import (
    AccessDeniedError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    TidemillError,
    UnavailableError,
)

_DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
_CANNOT_CONNECT: Final = 900
"""aiodocker's own status."""
_ERRORS: Final[Mapping[int, type[TidemillError]]] = {
    400: InvalidInputError,
    401: AccessDeniedError,
    403: AccessDeniedError,
    404: NotFoundError,
    409: ConflictError,
}
"""All others may pass: the Engine is away, busy or ill."""


class ImageError(TidemillError):
    """An image is not there and cannot be had, in Docker's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerState:
    """A container as it is."""

    name: str
    labels: Mapping[str, str]
    is_running: bool
    exit_code: int | None = None
    """None: it runs, or was never started."""
    was_out_of_memory: bool = False
    error: str = ""
    """Why it could not start."""


@dataclass(frozen=True, slots=True)
class ContainerEvent:
    """Something happened to a container."""

    name: str
    action: str
    """`die`, `oom`, `destroy`, …"""
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a pull is."""

    done_bytes: int
    total_bytes: int
    """Of the layers that are known by now."""


class DockerEngine:
    """One Docker Engine.

    Args:
        docker: aiodocker's client; closed with this.
        timeout: For one request, except pulls and events.
    """

    def __init__(self, docker: Docker, *, timeout: timedelta) -> None:
        self._docker = docker
        self._timeout = timeout.total_seconds()

    @property
    def address(self) -> str:
        """Where it is."""
        return str(self._docker._connection_info)  # the only place that keeps the address as it was given

    async def close(self) -> None:
        """Close all connections."""
        await self._docker.close()

    async def info(self) -> Mapping[str, Any]:
        """What it says of itself: version, driver, time.

        Raises:
            UnavailableError: It does not answer.
        """
        with self._translated("ask Docker"):
            async with asyncio.timeout(self._timeout):
                return await self._docker.system.info()

    async def has_image(self, image: str) -> bool:
        """Whether the image is there.

        Raises:
            UnavailableError: It does not answer.
            InvalidInputError: No image can have this name.
        """
        try:
            with self._translated(f"look for image {image}"):
                async with asyncio.timeout(self._timeout):
                    await self._docker.images.inspect(image)
        except NotFoundError:
            return False
        return True

    async def pull(self, image: str, *, auth: Mapping[str, str] | None) -> AsyncGenerator[PullProgress, None]:
        """Pull it, telling how far it is; it has ended well only when the iterator ends and the image is there.

        Raises:
            ImageError: It cannot be had; in Docker's words.
            UnavailableError: Docker does not answer.
        """
        layers: dict[str, tuple[int, int]] = {}
        try:
            with self._translated(f"pull {image}"):
                async for line in self._docker.images.pull(
                    image, auth=None if auth is None else dict(auth), stream=True
                ):
                    if _note(layers, line):
                        done, total = (sum(part) for part in zip(*layers.values(), strict=True))
                        yield PullProgress(done, total)
        except UnavailableError as error:
            if isinstance(error.__cause__, DockerError) and error.__cause__.status != _CANNOT_CONNECT:
                raise ImageError(error.__cause__.message) from error  # the registry's trouble comes as a 500
            raise
        except (NotFoundError, AccessDeniedError, InvalidInputError, ConflictError) as error:
            raise ImageError(_words(error)) from error
        if not await self.has_image(image):
            raise UnavailableError(f"pull {image}: the connection to Docker was lost")

    async def run(self, name: str, config: Mapping[str, Any]) -> None:
        """Create and start a container; nothing is left of it when it cannot start.

        Raises:
            UnavailableError: Docker does not answer, or cannot now.
            TidemillError: It refuses; in its words.
        """
        with self._translated(f"create container {name}"):
            async with asyncio.timeout(self._timeout):
                container = await self._docker.containers.create(dict(config), name=name)
        try:
            with self._translated(f"start container {name}"):
                async with asyncio.timeout(self._timeout):
                    await container.start()
        except BaseException:
            with contextlib.suppress(TidemillError):
                await self.remove(name)
            raise

    async def remove(self, name: str) -> None:
        """Kill and remove it with its anonymous volumes; one that is not there is success.

        Raises:
            UnavailableError: Docker does not answer.
        """
        is_gone = contextlib.suppress(NotFoundError, ConflictError)  # 409: somebody else is removing it
        with is_gone, self._translated(f"remove container {name}"):
            async with asyncio.timeout(self._timeout):
                await self._docker.containers.container(name).delete(force=True, v=True)

    async def inspect(self, name: str) -> ContainerState | None:
        """A container as it is; None: it is gone.

        Raises:
            UnavailableError: Docker does not answer.
        """
        try:
            with self._translated(f"inspect container {name}"):
                async with asyncio.timeout(self._timeout):
                    found = await self._docker.containers.container(name).show()
        except NotFoundError:
            return None
        return _state(found)

    async def containers(self, label: str) -> Sequence[str]:
        """Names of all that carry a label (`name=value`), ended ones as well.

        Raises:
            UnavailableError: Docker does not answer.
        """
        with self._translated("list containers"):
            async with asyncio.timeout(self._timeout):
                found = await self._docker.containers.list(all=True, filters=json.dumps({"label": [label]}))
        return [str(container["Names"][0]).removeprefix("/") for container in found]

    async def events(self, label: str, *, since: str) -> AsyncGenerator[ContainerEvent, None]:
        """What happens to containers with a label, from `since` (`moment`) on; ends when the connection does."""
        subscriber = self._docker.events.subscribe(create_task=False)  # type: ignore[no-untyped-call]  # only this is
        wanted = {"type": ["container"], "event": ["die", "oom", "destroy"], "label": [label]}
        reading = asyncio.create_task(
            self._docker.events.run(filters=json.dumps(wanted), since=since), name="docker events"
        )
        try:
            while (data := await subscriber.get()) is not None:
                yield _event(data)
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, DockerError, aiohttp.ClientError, ValueError):
                await reading

    @contextlib.contextmanager
    def _translated(self, tried: str) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise UnavailableError(f"{tried}: {self.address} did not answer in time") from error
        except aiohttp.ClientError as error:
            raise UnavailableError(f"{tried}: {self.address}: {error}") from error
        except DockerStreamError as error:
            raise InvalidInputError(f"{tried}: {error.message}") from error
        except DockerError as error:
            raise _ERRORS.get(error.status, UnavailableError)(f"{tried}: {error.message}") from error

    async def stop(self, name: str, grace: float) -> None:
        """SIGTERM, SIGKILL after `grace` seconds, and remove it; one that is not there is success.

        Raises:
            UnavailableError: Docker does not answer.
        """
        with contextlib.suppress(NotFoundError), self._translated(f"stop container {name}"):
            async with asyncio.timeout(self._timeout + grace):
                await self._docker.containers.container(name).stop(t=round(grace))
        await self.remove(name)

    async def output(self, name: str, lines: int) -> str:
        """Its newest lines, with times.

        Raises:
            NotFoundError: There is no such container.
            UnavailableError: Docker does not answer.
        """
        with self._translated(f"read the log of container {name}"):
            async with asyncio.timeout(self._timeout):
                container = self._docker.containers.container(name)
                found = await container.log(stdout=True, stderr=True, timestamps=True, tail=lines)
        return "".join(found)


def open_engine(host: str | None, *, timeout: timedelta) -> DockerEngine:
    """The Engine at an address, or where the docker command would look; connects with the first request.

    Must be called in a running event loop.

    Raises:
        InvalidInputError: The address, or Docker's own context, is wrong.
    """
    if host is None and not os.environ.get("DOCKER_CONTEXT"):
        host = os.environ.get("DOCKER_HOST") or None  # before config.json's context, as the docker command does
    try:
        return DockerEngine(Docker(url=host), timeout=timeout)
    except AssertionError:  # no address and no socket: let the first request say so
        return DockerEngine(Docker(url=_DEFAULT_HOST), timeout=timeout)
    except (ValueError, OSError, DockerContextError) as error:
        raise InvalidInputError(f"address of Docker: {error}") from error


def moment(info: Mapping[str, Any]) -> str:
    """The Engine's own time, from `info()`, as `events` wants it."""
    text = str(info.get("SystemTime") or "")
    try:
        at = datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)
        offset = datetime.fromisoformat(text[:19] + text[-6:]).utcoffset() if text[-6:-5] in "+-" else None
    except ValueError:
        return str(int(datetime.now(UTC).timestamp()))
    return str(int((at - (offset or timedelta())).timestamp()))


def _note(layers: dict[str, tuple[int, int]], line: Mapping[str, Any]) -> bool:
    """Take up one line of a pull's progress; whether it told something."""
    layer, detail = str(line.get("id", "")), line.get("progressDetail") or {}
    match line.get("status"):
        case "Downloading" if "total" in detail:
            layers[layer] = int(detail.get("current", 0)), int(detail["total"])
        case "Download complete" | "Pull complete" if layer in layers:
            layers[layer] = layers[layer][1], layers[layer][1]
        case _:
            return False
    return True


def _state(found: Mapping[str, Any]) -> ContainerState:
    state = found["State"]
    is_running = bool(state.get("Running"))
    return ContainerState(
        name=str(found["Name"]).removeprefix("/"),
        labels=found["Config"].get("Labels") or {},
        is_running=is_running,
        exit_code=None if is_running or state.get("Status") == "created" else int(state.get("ExitCode", 0)),
        was_out_of_memory=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
    )


def _event(data: Mapping[str, Any]) -> ContainerEvent:
    attributes = data.get("Actor", {}).get("Attributes", {})
    code = attributes.get("exitCode")
    return ContainerEvent(
        str(attributes.get("name", "")), str(data.get("Action", "")), None if code is None else int(code)
    )


def _words(error: TidemillError) -> str:
    """What Docker said, without what we tried."""
    cause = error.__cause__
    return cause.message if isinstance(cause, DockerError) else str(error)
