"""The Docker Engine that `tidemill up --launcher docker` needs: is it there, and nothing of ours stays behind on it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerError

from tidemill.errors import CliError, Exit

HOST_VARIABLE: Final = "TIDEMILL_SCHEDULER_DOCKER__HOST"
_TIMEOUT_SECONDS: Final = 10
_DEFAULT: Final = "unix:///var/run/docker.sock"
_ADVICE: Final = (
    "Install and start Docker (Debian and Ubuntu: `apt install docker.io`), or set DOCKER_HOST to its address.\n"
    "Without Docker: tidemill up --launcher process"
)
_NO_RIGHT: Final = "This user may not use it: add it to the group of the socket (often `docker`), and log in again."


async def check(environment: Mapping[str, str]) -> str:
    """The version and address of the Engine, which can run containers that share this machine's files.

    Raises:
        CliError: It cannot be reached, or runs on another machine; says what to do.
    """
    async with _engine(environment) as docker:
        address = str(docker._connection_info)  # the only place that keeps the address as it was given
        info = await _info(docker, address)
    if info.get("OSType") != "linux" or info.get("KernelVersion") != os.uname().release:
        raise CliError(
            f"Docker at {address} runs on another machine, or in a virtual one ({info.get('OperatingSystem')}): "
            "it cannot share the directories of Workers. Use a Docker Engine of this machine, or a cluster."
        )
    return f"{info.get('ServerVersion')} at {address}"


async def _info(docker: Docker, address: str) -> Mapping[str, Any]:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            return await docker.system.info()
    except TimeoutError as error:
        raise CliError(f"Docker does not answer at {address} within {_TIMEOUT_SECONDS} s", Exit.CONNECTION) from error
    except (DockerError, aiohttp.ClientError, OSError) as error:
        said = error.message if isinstance(error, DockerError) else str(error)
        advice = _NO_RIGHT if "Permission denied" in said else _ADVICE
        raise CliError(f"Docker does not answer at {address}: {said}\n{advice}", Exit.CONNECTION) from error


async def remove(installation: str, environment: Mapping[str, str]) -> int:
    """Remove all containers of a platform; how many there were.

    An Engine that does not answer is left alone: the next scheduler finds them.
    """
    label = f"tidemill.io/installation={installation}"
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS), _engine(environment) as docker:
            found = await docker.containers.list(all=True, filters=json.dumps({"label": [label]}))
            for container in found:
                await container.delete(force=True, v=True)
    except (TimeoutError, DockerError, aiohttp.ClientError, CliError):
        return 0
    return len(found)


@asynccontextmanager
async def _engine(environment: Mapping[str, str]) -> AsyncIterator[Docker]:
    """The Engine that the scheduler would use."""
    host = environment.get(HOST_VARIABLE)
    if host is None and not environment.get("DOCKER_CONTEXT"):
        host = environment.get("DOCKER_HOST") or None
    try:
        docker = Docker(url=host)
    except AssertionError:  # aiodocker's way to say that it found no socket
        docker = Docker(url=_DEFAULT)
    except (ValueError, OSError, DockerError) as error:
        raise CliError(f"address of Docker: {error}", Exit.USAGE) from error
    async with docker:
        yield docker
