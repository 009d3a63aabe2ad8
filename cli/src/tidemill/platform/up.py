"""`tidemill up`: servers, then components, until a signal; then the same in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tidemill.errors import CliError
from tidemill.platform.components import component_specs, server_specs
from tidemill.platform.installation import Installation
from tidemill.platform.launching import remove_containers
from tidemill.platform.layout import Layout, write_private
from tidemill.platform.logs import Follower, follow_all
from tidemill.platform.processes import Child, Tell
from tidemill.platform.records import (
    UP,
    ProcessRecord,
    end_leftovers,
    end_processes,
    forget,
    only_one,
    running_up,
    workers_of,
    write_record,
)
from tidemill.platform.streams import prepare_streams

STOP_ORDER: Final = (("scheduler",), ("gateway", "storage-bridge"), ("seaweedfs",), ("nats",))
"""Workers drain while everything they need is still there. The stop timeouts add up to 10 s."""
WORKERS_PATIENCE: Final = 0.5
"""Seconds for Workers that the scheduler did not end: it was killed, or they did not drain in time."""
SERVERS: Final = frozenset({"nats", "seaweedfs"})


class AlreadyRunningError(CliError):
    """Another `tidemill up` runs on this directory."""


@asynccontextmanager
async def platform_running(
    directory: Path, *, port: int | None, tell: Tell, verbose: bool = False, halt: asyncio.Event | None = None
) -> AsyncIterator[Installation]:
    """The whole platform, ready, for the length of the block; everything is stopped at its end, also on failure.

    Args:
        halt: When set, children are killed instead of asked to stop.

    Raises:
        AlreadyRunningError: It runs already.
        CliError: Something does not start; says what, with its last words.
    """
    layout = Layout(directory.resolve())
    layout.make()
    with only_one(layout) as alone:
        if not alone:
            raise AlreadyRunningError(f"{layout.root} is in use: {_who(layout)}")
        for name in end_leftovers(layout):
            tell("up", f"ended a {name} that an earlier run left behind")
        installation = Installation.open(directory, port=port)
        write_record(layout, ProcessRecord.of(UP, os.getpid()))
        try:
            async with _children(installation, tell, verbose, halt or asyncio.Event()):
                write_record(layout, ProcessRecord.of(UP, os.getpid(), ready=True))
                yield installation
        finally:
            forget(layout, UP)


@asynccontextmanager
async def _children(
    installation: Installation, tell: Tell, verbose: bool, halt: asyncio.Event
) -> AsyncIterator[dict[str, Child]]:
    layout = installation.layout
    tokens = {installation.credentials.events_token: "webhook"}
    write_private(layout.identities / "events-tokens.json", json.dumps(tokens))
    servers = [Child(spec, layout, tell=tell) for spec in server_specs(installation)]
    components = [Child(spec, layout, tell=tell) for spec in component_specs(installation)]
    children = {child.spec.name: child for child in (*servers, *components)}
    logs = asyncio.create_task(follow_all(_followers(children, tell, verbose)), name="logs")
    try:
        await _start(servers)
        await prepare_streams(installation)
        await _start(components)
        yield children
    finally:
        await _stop_all(children, layout, halt)
        logs.cancel()
        await asyncio.gather(logs, return_exceptions=True)


def _followers(children: dict[str, Child], tell: Tell, verbose: bool) -> list[Follower]:
    def shows(name: str) -> Callable[[str], None] | None:
        return None if name in SERVERS and not verbose else lambda line: tell(name, line)

    return [Follower(child.log, shows(name)) for name, child in children.items()]


async def _start(children: Sequence[Child]) -> None:
    for child in children:
        child.start()
    try:
        async with asyncio.TaskGroup() as group:
            for child in children:
                group.create_task(child.wait_ready())
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _stop_all(children: dict[str, Child], layout: Layout, halt: asyncio.Event) -> None:
    stopping = asyncio.create_task(_stop_in_order(children, layout))
    halted = asyncio.create_task(halt.wait())
    await asyncio.wait({stopping, halted}, return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        for child in children.values():
            child.kill()
        for worker in workers_of(layout):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGKILL)
    halted.cancel()
    await asyncio.gather(halted, return_exceptions=True)
    await stopping


async def _stop_in_order(children: dict[str, Child], layout: Layout) -> None:
    for names in STOP_ORDER:
        await asyncio.gather(*(children[name].stop() for name in names))
        if "scheduler" in names:
            await asyncio.to_thread(end_processes, workers_of(layout), WORKERS_PATIENCE)
            await remove_containers(layout, os.environ)


def _who(layout: Layout) -> str:
    record = running_up(layout)
    return f"tidemill up runs there already (pid {record.pid})" if record else "another tidemill command holds it"


async def run(
    directory: Path,
    *,
    port: int | None,
    tell: Tell,
    ready: Callable[[Installation], None],
    verbose: bool = False,
) -> None:
    """Run until SIGTERM or Ctrl-C; a second one kills.

    Args:
        ready: Called once, when everything answers.
    """
    stopping, halt, is_ready = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def serve() -> None:
        async with platform_running(directory, port=port, tell=tell, verbose=verbose, halt=halt) as installation:
            is_ready.set()
            ready(installation)
            await stopping.wait()

    main = asyncio.create_task(serve(), name="platform")

    def on_signal() -> None:
        if stopping.is_set():
            halt.set()
        elif not is_ready.is_set():
            main.cancel()
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    try:
        await asyncio.wait({main})
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    if not main.cancelled():
        main.result()
