"""Keeps one container of an exposed Service running."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from tidemill_common.secrets import SecretStore
from tidemill_scheduler.exposing.docker.containers import Container, Site, config_of, free_port
from tidemill_scheduler.exposing.domain import Exposure, Observation
from tidemill_scheduler.exposing.health import TIMEOUT_SECONDS, Health
from tidemill_scheduler.exposing.keeping import HOST, Keeper
from tidemill_scheduler.exposing.ports import OnChange
from tidemill_scheduler.exposing.probing import answers
from tidemill_scheduler.launchers.docker.engine import ContainerState

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
class Tools:
    """What all keepers share."""

    engine: Engine
    images: Pulls
    secrets: SecretStore
    site: Site
    grace: float
    on_change: OnChange


class ContainerKeeper(Keeper):
    """Keeps one container running."""

    def __init__(self, exposure: Exposure, tools: Tools, *, adopted: Container | None) -> None:
        self._tools = tools
        self.container = adopted
        """None: there is none."""
        super().__init__(exposure, on_change=tools.on_change, is_present=adopted is not None)

    @property
    def name(self) -> str:
        """Of the container; empty: there is none."""
        return self.container.name if self.container else ""

    async def _run_once(self) -> str:
        """Why the container is no more."""
        container = self.container or await self._start()
        self._show_start()
        reason = await self._watch(container)
        await self._tools.engine.stop(container.name, self._tools.grace)
        self.container = None
        return reason

    async def _start(self) -> Container:
        exposure, tools = self.exposure, self._tools
        await tools.images.ensure(exposure.service.image)
        record = await tools.secrets.get(exposure.name)
        container = Container(
            name=f"exposed-{exposure.name}-{secrets.token_hex(4)}",
            service=exposure.name,
            version=exposure.version,
            port=free_port(),
        )
        self.container = container  # ours to end from now on, whatever becomes of the start
        await tools.engine.run(
            container.name, config_of(container, exposure, record.environment if record else {}, tools.site)
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
            self._show_health(health, Observation(urls=(container.url,), active=1, present=1))
            await asyncio.sleep(min(health.pause, _INSPECT_SECONDS))


def _ending(state: ContainerState | None) -> str:
    """Empty: it runs."""
    if state is None:
        return "its container was removed"
    if state.is_running:
        return ""
    if state.was_out_of_memory:
        return "OOMKilled: it needed more memory than its limit"
    return state.error or f"ended with exit code {state.exit_code}"
