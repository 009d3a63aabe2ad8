"""`up`, `down`, `streams`, `keys`: the platform on this machine."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from tidemill.connection import DEFAULT_DIRECTORY
from tidemill.errors import CliError, Exit
from tidemill.output import Format, FormatOption, err, out, show_json
from tidemill.platform.installation import Installation
from tidemill.platform.keys import KEYS_FILE, SERVER_FILE, WORKERS_FILE, make_keys
from tidemill.platform.launching import Launcher, Pull, check_docker, choose, kept, remove_containers
from tidemill.platform.layout import Layout
from tidemill.platform.maintenance import bus_running
from tidemill.platform.processes import tail
from tidemill.platform.records import ProcessRecord, end_leftovers, end_processes, running_up
from tidemill.platform.streams import operator_bus
from tidemill.platform.up import run
from tidemill.session import session_of
from tidemill_common.bus import StreamChange
from tidemill_common.bus.streams import describe

_COLOURS: Final = {
    "gateway": "cyan",
    "storage-bridge": "green",
    "scheduler": "magenta",
    "nats": "blue",
    "seaweedfs": "yellow",
}

DirectoryOption = Annotated[Path | None, typer.Option("--dir", help="Where the platform's state lives.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(up)
    app.command()(down)
    app.command()(streams)
    app.command()(keys)


def _directory(context: typer.Context, given: Path | None) -> Path:
    return given or session_of(context).directory or Path(os.environ.get("TIDEMILL_DIR") or DEFAULT_DIRECTORY)


def _tell(name: str, line: str) -> None:
    colour = _COLOURS.get(name, "white")
    err.print(f"[{colour}]{name:>14}[/] {escape(line)}")


def up(
    context: typer.Context,
    directory: DirectoryOption = None,
    port: Annotated[int | None, typer.Option(help="Of the API; 0: any. Default: that of last time, or 8080.")] = None,
    launcher: Annotated[
        Launcher | None, typer.Option(help="Where scripts run. Default: that of last time, or process.")
    ] = None,
    pull: Annotated[
        Pull | None, typer.Option(help="When docker pulls images. Default: that of last time, or missing.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when it is ready; stop it with `down`.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the logs of the bus and the store too.")
    ] = False,
) -> None:
    """Run the whole platform on this machine until Ctrl-C."""
    where = _directory(context, directory)
    _prepare_launcher(where, launcher, pull)
    if detach:
        _detach(where, port)
    else:
        asyncio.run(run(where, port=port, tell=_tell, verbose=verbose, ready=_announce))


def _prepare_launcher(where: Path, launcher: Launcher | None, pull: Pull | None) -> None:
    layout = Layout(where.resolve())
    layout.make()
    choose(layout, launcher, pull)
    if kept(layout, os.environ).launcher is Launcher.DOCKER:
        asyncio.run(check_docker(os.environ))


def _announce(installation: Installation) -> None:
    connection = installation.connection
    err.print(f"\n[bold green]tidemill is ready[/] ({installation.layout.root})")
    err.print(f"  API          {connection.endpoint}   user {connection.username}")
    err.print(f"  object store {connection.s3_endpoint}   (S3)")
    err.print(f"  events       {connection.events_endpoint}   (webhooks of stores, CloudEvents)")
    err.print(f"  passwords and keys are in {installation.layout.connection}")
    if kept(installation.layout, os.environ).launcher is Launcher.DOCKER:
        err.print("  [dim]docker mode: scripts run in containers of their image[/]\n")
    else:
        err.print("  [dim]process mode: scripts run as this user, without their image[/]\n")


def _detach(where: Path, port: int | None) -> None:
    layout = Layout(where.resolve())
    layout.make()
    if (record := running_up(layout)) is not None and record.ready:
        out.print(f"runs already (pid {record.pid})")
        return
    log = layout.logs / "up.log"
    command = [sys.executable, "-m", "tidemill", "up", "--dir", str(layout.root)]
    with log.open("ab") as output:
        child = subprocess.Popen(
            [*command, *(["--port", str(port)] if port is not None else [])],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    _wait_until_ready(child, layout, log)
    out.print(f"tidemill is ready (pid {child.pid}, {layout.root}); stop it with: tidemill down --dir {where}")


def _wait_until_ready(child: subprocess.Popen[bytes], layout: Layout, log: Path) -> None:
    while child.poll() is None:
        record = running_up(layout)
        if record is not None and record.pid == child.pid and record.ready:
            return
        time.sleep(0.1)
    raise CliError(f"it did not start; its last lines ({log}):\n{tail(log)}")


def down(context: typer.Context, directory: DirectoryOption = None) -> None:
    """Stop the platform of a directory, and what an `up` that was killed left behind."""
    where = _directory(context, directory)
    layout = Layout(where.resolve())
    if not layout.run.is_dir():
        raise CliError(f"{where} is not the directory of a `tidemill up`", Exit.NOT_FOUND)
    record = running_up(layout)
    if record is not None:
        _stop(record)
    left = end_leftovers(layout)
    left += ["container"] * asyncio.run(remove_containers(layout, os.environ))
    if record is None and not left:
        out.print("it does not run")
        return
    out.print("stopped" + (f"; ended what was left behind: {', '.join(left)}" if left else ""))


def _stop(record: ProcessRecord) -> None:
    process = record.process()
    if process is not None:
        end_processes([process], 15)


class StreamsDo(StrEnum):
    """What `streams` does."""

    PLAN = "plan"
    APPLY = "apply"


def streams(
    context: typer.Context,
    do: Annotated[StreamsDo, typer.Argument(help="Show what differs, or change it.")] = StreamsDo.PLAN,
    directory: DirectoryOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Compare the bus's Streams with what this version wants; `apply` changes them."""
    plan = asyncio.run(_streams(_directory(context, directory), apply=do is StreamsDo.APPLY))
    if form is Format.JSON:
        show_json(
            [{"stream": change.stream, "action": change.action, "fields": dict(change.fields)} for change in plan]
        )
    elif not plan:
        out.print("the streams are as they should be")
    else:
        for change in plan:
            out.print(describe(change), markup=False)
        if do is StreamsDo.APPLY:
            out.print("done")


def keys(
    directory: Annotated[Path, typer.Option("--dir", help="Where to write them; made if it is not there.")],
) -> None:
    """Make keys for the bus of an installation elsewhere: a part of its server's configuration, and credentials.

    Made once: called again it writes the same files, with what this version allows each identity.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_keys(directory)
    out.print(f"{SERVER_FILE} is for nats-server (include it), {WORKERS_FILE} for the scheduler, *.creds for", end=" ")
    out.print(f"the component in its name; {KEYS_FILE} makes them all again: keep it where nobody else can read it")


async def _streams(directory: Path, *, apply: bool) -> Sequence[StreamChange]:
    async with bus_running(directory, tell=_tell) as installation, operator_bus(installation) as bus:
        plan = await bus.streams.plan()
        if apply and plan:
            await bus.streams.apply(plan)
        return plan
