"""Exposed Services as containers of a Docker Engine: `min_scale` of each, every one on a loopback port of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import Final

from tidemill_common.concurrently import each
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.exposed import LogLine
from tidemill_common.errors import NotFoundError
from tidemill_scheduler.exposing.docker.containers import INSTALLATION, Container, container_of, write_script
from tidemill_scheduler.exposing.docker.keeper import ContainerKeeper, Tools
from tidemill_scheduler.exposing.domain import NOTHING, Exposure, Observation
from tidemill_scheduler.exposing.lines import newest

_AT_ONCE: Final = 32
"""Stops; each waits for its container to end."""


class DockerExposer:
    """Runs the instances of each exposed Service."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._found: dict[ServiceName, list[Container]] = {}
        self._keepers: dict[ServiceName, list[ContainerKeeper]] = {}

    async def adopt(self) -> None:
        """See the port."""
        engine, ours = self._tools.engine, f"{INSTALLATION}={self._tools.site.installation}"
        kept = {keeper.name for keepers in self._keepers.values() for keeper in keepers}
        found: dict[ServiceName, list[Container]] = {}
        for name in await engine.containers(ours):
            state = await engine.inspect(name)
            if state is not None and name not in kept and (container := container_of(state)) is not None:
                found.setdefault(container.service, []).append(container)
        self._found = found  # all at once: when Docker stops answering in between, this is begun anew

    async def ensure(self, exposure: Exposure) -> None:
        """See the port."""
        keepers = self._keepers.get(exposure.name)
        if exposure.wish.stopped:
            await self.remove(exposure.name)
            return
        if keepers and keepers[0].exposure.version == exposure.version:
            return
        await self._let_go(exposure.name)
        adopted = await self._take_found(exposure)
        write_script(self._tools.site.scripts, exposure)
        taken = [*adopted, *([None] * exposure.min_scale)][: exposure.min_scale]
        self._keepers[exposure.name] = [ContainerKeeper(exposure, self._tools, adopted=one) for one in taken]

    async def remove(self, service: ServiceName) -> None:
        """See the port."""
        await self._let_go(service)
        await self._stop(self._found.get(service, ()))
        self._found.pop(service, None)

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
        await each(list(self.services()), self.remove, concurrency=_AT_ONCE)

    async def _take_found(self, exposure: Exposure) -> list[Container]:
        """Containers of this version; others of this Service are ended."""
        found = self._found.get(exposure.name, [])
        fitting = [one for one in found if one.version == exposure.version][: exposure.min_scale]
        await self._stop([one for one in found if one not in fitting])
        self._found.pop(exposure.name, None)
        return fitting

    async def _let_go(self, service: ServiceName) -> None:
        """Watch its containers no more. They are as those of an earlier scheduler, until they are known to be ended."""
        keepers = self._keepers.pop(service, [])
        for keeper in keepers:
            await keeper.leave()
        if left := [keeper.container for keeper in keepers if keeper.container is not None]:
            self._found.setdefault(service, []).extend(left)

    async def _stop(self, containers: Collection[Container]) -> None:
        async def stop(container: Container) -> None:
            await self._tools.engine.stop(container.name, self._tools.grace)

        await each(containers, stop, concurrency=_AT_ONCE)
