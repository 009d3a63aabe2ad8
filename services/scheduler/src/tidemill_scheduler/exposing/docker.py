"""Exposed Services as containers of a Docker Engine: `min_scale` of each, every one on a loopback port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.exposed import LogLine
from tidemill_common.errors import NotFoundError, TidemillError
from tidemill_common.quantity import millicores, size_bytes
from tidemill_common.secrets import SecretStore
from tidemill_scheduler.exposing.domain import NOTHING, Exposure, Observation
from tidemill_scheduler.exposing.health import TIMEOUT_SECONDS, Health, pause_before_restart
from tidemill_scheduler.exposing.lines import newest
from tidemill_scheduler.exposing.ports import OnChange
from tidemill_scheduler.exposing.probing import answers
from tidemill_scheduler.launchers.docker.engine import ContainerState
from tidemill_scheduler.launchers.docker.settings import DockerSettings

log = structlog.get_logger()
HOST: Final = "127.0.0.1"
SCRIPT: Final = "/oscar/config/script.sh"
INSTALLATION: Final = "tidemill.io/exposed-installation"
"""Not the Workers' label: what has that one and no Worker is removed."""
SERVICE: Final = "tidemill.io/service"
_VERSION: Final = "tidemill.io/version"
_PORT: Final = "tidemill.io/port"
_STABLE_SECONDS: Final = 60.0
_INSPECT_SECONDS: Final = 2.0


class Engine(Protocol):
    """What this needs of Docker."""

    async def run(self, name: str, config: Mapping[str, Any]) -> None:
        """Create and start a container."""
        ...

    async def stop(self, name: str, grace: float) -> None:
        """SIGTERM, SIGKILL after `grace` seconds, and remove it; one that is not there is success."""
        ...

    async def inspect(self, name: str) -> ContainerState | None:
        """A container as it is."""
        ...

    async def containers(self, label: str) -> Sequence[str]:
        """Names of all that carry a label."""
        ...

    async def output(self, name: str, lines: int) -> str:
        """Its newest lines, with times."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class Pulls(Protocol):
    """Brings images."""

    async def ensure(self, image: str) -> None:
        """Return when it is there."""
        ...

    async def close(self) -> None:
        """End all pulls."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One that was started."""

    name: str
    service: ServiceName
    version: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What all keepers share."""

    engine: Engine
    images: Pulls
    secrets: SecretStore
    scripts: Path
    """A folder for each Service with its script, which containers see."""
    installation: str
    settings: DockerSettings
    grace: float
    on_change: OnChange


class DockerExposer:
    """Runs the instances of each exposed Service."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._found: dict[ServiceName, list[Container]] = {}
        self._keepers: dict[ServiceName, list[ContainerKeeper]] = {}

    async def adopt(self) -> None:
        """See the port."""
        engine, ours = self._tools.engine, f"{INSTALLATION}={self._tools.installation}"
        kept = {keeper.name for keepers in self._keepers.values() for keeper in keepers}
        for name in await engine.containers(ours):
            state = await engine.inspect(name)
            if state is not None and name not in kept and (container := _container(state)) is not None:
                self._found.setdefault(container.service, []).append(container)

    async def ensure(self, exposure: Exposure) -> None:
        """See the port."""
        keepers = self._keepers.get(exposure.name)
        if exposure.wish.stopped:
            await self.remove(exposure.name)
            return
        if keepers and keepers[0].exposure.version == exposure.version:
            return
        adopted = await self._take_found(exposure)
        await self._end(self._keepers.pop(exposure.name, []))
        _write_script(self._tools.scripts, exposure)
        taken = [*adopted, *([None] * exposure.min_scale)][: exposure.min_scale]
        self._keepers[exposure.name] = [ContainerKeeper(exposure, self._tools, adopted=one) for one in taken]

    async def remove(self, service: ServiceName) -> None:
        """See the port."""
        async with asyncio.TaskGroup() as tasks:
            for container in self._found.pop(service, ()):
                tasks.create_task(self._tools.engine.stop(container.name, self._tools.grace))
            tasks.create_task(self._end(self._keepers.pop(service, [])))

    def services(self) -> Collection[ServiceName]:
        """See the port."""
        return {*self._keepers, *self._found}

    def observe(self, service: ServiceName) -> Observation:
        """See the port."""
        seen = [keeper.observation for keeper in self._keepers.get(service, ())]
        if not seen:
            return NOTHING
        troubled = sorted((one for one in seen if one.reason), key=lambda one: one.is_broken)
        return Observation(
            urls=tuple(url for one in seen for url in one.urls),
            active=sum(one.active for one in seen),
            present=sum(one.present for one in seen),
            reason=troubled[-1].reason if troubled else "",
            is_broken=any(one.is_broken for one in seen),
        )

    async def logs(self, service: ServiceName, lines: int) -> Sequence[LogLine]:
        """See the port."""
        names = [keeper.name for keeper in self._keepers.get(service, ()) if keeper.name]
        if not names:
            raise NotFoundError(f"{service} has no container")
        found: list[LogLine] = []
        for name in names:
            with contextlib.suppress(NotFoundError):
                found += newest(await self._tools.engine.output(name, lines), lines)
        return sorted(found, key=lambda line: (line.at is not None, line.at))[-lines:]

    async def release(self) -> None:
        """See the port."""
        keepers, self._keepers = [one for many in self._keepers.values() for one in many], {}
        self._found.clear()
        for keeper in keepers:
            await keeper.leave()

    async def close(self) -> None:
        """See the port."""
        await self.release()
        await self._tools.images.close()
        await self._tools.engine.close()

    async def stop_all(self) -> None:
        """See the port."""
        async with asyncio.TaskGroup() as tasks:
            for service in list(self.services()):
                tasks.create_task(self.remove(service))

    async def _take_found(self, exposure: Exposure) -> list[Container]:
        """Containers that an earlier scheduler started for this version; others of this Service are ended."""
        found = self._found.pop(exposure.name, [])
        fitting = [one for one in found if one.version == exposure.version][: exposure.min_scale]
        for container in found:
            if container not in fitting:
                await self._tools.engine.stop(container.name, self._tools.grace)
        return fitting

    async def _end(self, keepers: Sequence[ContainerKeeper]) -> None:
        for keeper in keepers:
            await keeper.leave()
        names = [keeper.name for keeper in keepers if keeper.name]
        async with asyncio.TaskGroup() as tasks:
            for name in names:
                tasks.create_task(self._tools.engine.stop(name, self._tools.grace))


class ContainerKeeper:
    """Keeps one container running, until it is told to leave."""

    def __init__(self, exposure: Exposure, tools: Tools, *, adopted: Container | None) -> None:
        self.exposure = exposure
        self.observation = Observation(present=1 if adopted else 0)
        self._tools = tools
        self._container = adopted
        self._failures = 0
        self._task = asyncio.create_task(self._keep(), name=f"expose {exposure.name}")

    @property
    def name(self) -> str:
        """Of the container; empty: there is none."""
        return self._container.name if self._container else ""

    async def leave(self) -> None:
        """Watch no more; the container goes on."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            try:
                reason = await self._run_once()
            except TidemillError as error:
                reason = str(error)
            self._failures += 1
            self._show(Observation(reason=reason, is_broken=True))
            pause = pause_before_restart(self._failures)
            log.warning("exposed service ended", service=self.exposure.name, reason=reason, next_try_seconds=pause)
            await asyncio.sleep(pause)

    async def _run_once(self) -> str:
        """Why the container is no more."""
        begun = time.monotonic()
        container = self._container or await self._start()
        before = self.observation
        self._show(Observation(present=1, reason=before.reason, is_broken=before.is_broken))
        reason = await self._watch(container)
        await self._tools.engine.stop(container.name, self._tools.grace)
        self._container = None
        if time.monotonic() - begun >= _STABLE_SECONDS:
            self._failures = 0
        return reason

    async def _start(self) -> Container:
        exposure, tools = self.exposure, self._tools
        await tools.images.ensure(exposure.service.image)
        record = await tools.secrets.get(exposure.name)
        container = Container(
            name=f"exposed-{exposure.name}-{secrets.token_hex(4)}",
            service=exposure.name,
            version=exposure.version,
            port=_free_port(),
        )
        self._container = container  # ours to end from now on, whatever becomes of the start
        await tools.engine.run(
            container.name, config_of(container, exposure, record.environment if record else {}, tools)
        )
        return container

    async def _watch(self, container: Container) -> str:
        """Return why the container must be replaced."""
        health, looked_at = Health(started_at=time.monotonic()), time.monotonic()
        while True:
            ok = await answers(HOST, container.port, self.exposure.health_path, timeout=TIMEOUT_SECONDS)
            now = time.monotonic()
            health = health.after(ok=ok, now=now)
            if not ok or now - looked_at >= _INSPECT_SECONDS:
                looked_at = now
                if ended := _ending(await self._tools.engine.inspect(container.name)):
                    return ended
            if reason := health.trouble(now):
                return reason
            self._show_health(health, container)
            await asyncio.sleep(min(health.pause, _INSPECT_SECONDS))

    def _show_health(self, health: Health, container: Container) -> None:
        if health.is_ready:
            self._show(Observation(urls=(f"http://{HOST}:{container.port}",), active=1, present=1))
        elif health.has_answered:
            self._show(Observation(present=1, reason="does not answer the health probe", is_broken=True))

    def _show(self, observation: Observation) -> None:
        if observation != self.observation:
            self.observation = observation
            self._tools.on_change()


def config_of(
    container: Container, exposure: Exposure, secret_values: Mapping[str, str], tools: Tools
) -> Mapping[str, Any]:
    """What Docker is told."""
    service, exposed = exposure.service, f"{exposure.port}/tcp"
    fixed = {"OSCAR_SERVICE_NAME": service.name, "OSCAR_SERVICE_BASE_PATH": exposure.base_path}
    environment = {**service.variables, **secret_values, **fixed}
    config: dict[str, Any] = {
        "Image": service.image,
        "Hostname": container.name[:63],
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Labels": {
            **service.labels,
            "app.kubernetes.io/managed-by": "tidemill",
            "app.kubernetes.io/component": "exposed",
            SERVICE: service.name,
            INSTALLATION: tools.installation,
            _VERSION: container.version,
            _PORT: str(container.port),
        },
        "ExposedPorts": {exposed: {}},
        "OpenStdin": False,
        "HostConfig": _host_config(container, exposure, tools),
    }
    if not exposure.expose.default_command:
        config |= {"Entrypoint": ["/bin/sh", "-c", SCRIPT], "Cmd": []}
    return config


def _host_config(container: Container, exposure: Exposure, tools: Tools) -> dict[str, Any]:
    service, settings = exposure.service, tools.settings
    memory = size_bytes(service.memory)
    config: dict[str, Any] = {
        "Mounts": [
            {
                "Type": "bind",
                "Source": str(script_path(tools.scripts, exposure)),
                "Target": SCRIPT,
                "ReadOnly": True,
            }
        ],
        "PortBindings": {f"{exposure.port}/tcp": [{"HostIp": HOST, "HostPort": str(container.port)}]},
        "NanoCpus": millicores(service.cpu) * 1_000_000,
        "Memory": memory,
        "MemorySwap": memory,  # the sum of both, so no swap
        "PidsLimit": settings.pids_limit or -1,
        "SecurityOpt": ["no-new-privileges"],
        "CapDrop": list(settings.cap_drop),
        "CapAdd": list(settings.cap_add),
        "NetworkMode": "bridge" if settings.network in ("none", "host") else settings.network,
        "Privileged": False,
        "Init": True,  # a server that is process 1 would not get SIGTERM
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "4m", "max-file": "2"}},
    }
    if settings.runtime is not None:
        config["Runtime"] = settings.runtime
    if service.enable_gpu:
        config["DeviceRequests"] = [{"Count": -1, "Capabilities": [["gpu"]]}]
    return config


def script_path(scripts: Path, exposure: Exposure) -> Path:
    """One file for each version: a running container keeps the one that it was started with."""
    return scripts / exposure.name / f"{exposure.version}.sh"


def _write_script(scripts: Path, exposure: Exposure) -> None:
    path = script_path(scripts, exposure)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(exposure.service.script)
    path.chmod(0o777)
    for other in path.parent.glob("*.sh"):
        if other != path:
            other.unlink()


def _container(state: ContainerState) -> Container | None:
    labels = state.labels
    if not (labels.get(SERVICE) and labels.get(_VERSION) and labels.get(_PORT, "").isdigit()):
        return None
    return Container(
        name=state.name, service=ServiceName(labels[SERVICE]), version=labels[_VERSION], port=int(labels[_PORT])
    )


def _ending(state: ContainerState | None) -> str:
    """Empty: it runs."""
    if state is None:
        return "its container was removed"
    if state.is_running:
        return ""
    if state.was_out_of_memory:
        return "OOMKilled: it needed more memory than its limit"
    return state.error or f"ended with exit code {state.exit_code}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
