"""One run of the command: what the user said, and the clients made of it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import typer

from tidemill.client import GatewayClient
from tidemill.connection import OSCAR_CONFIG, Wishes, choose, find_directory, read_local, read_oscar_config
from tidemill.errors import CliError, Exit
from tidemill.objects import Objects, open_objects
from tidemill.platform.connection import Connection

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Session:
    """What was said before the command's name."""

    wishes: Wishes
    directory: Path | None = None
    """Of `tidemill up`; None: look for one."""
    oscar_config: Path = OSCAR_CONFIG

    @property
    def local_directory(self) -> Path | None:
        """The directory of `tidemill up` that this command is about, if there is one."""
        given = self.directory or (Path(text) if (text := os.environ.get("TIDEMILL_DIR")) else None)
        return given or find_directory(Path.cwd())

    @property
    def connection(self) -> Connection:
        """The platform to talk to.

        Raises:
            CliError: There is none.
        """
        clusters, default = read_oscar_config(self.oscar_config.expanduser())
        wishes = self.wishes.over(Wishes.of_environment(os.environ))
        local = read_local(self.local_directory)
        if self.directory is not None and local is None:
            raise CliError(f"{self.directory} is not the directory of a `tidemill up`", Exit.CONNECTION)
        return choose(wishes, local=local, clusters=clusters, default=default)

    @asynccontextmanager
    async def gateway(self) -> AsyncIterator[GatewayClient]:
        """A client of the gateway."""
        async with GatewayClient.open(self.connection) as client:
            yield client

    @asynccontextmanager
    async def objects(self) -> AsyncIterator[Objects]:
        """The platform's own store."""
        async with self.gateway() as client, open_objects(self.connection, client) as objects:
            yield objects


def session_of(context: typer.Context) -> Session:
    """The session that the main callback made."""
    session = context.find_object(Session)
    if session is None:
        raise RuntimeError("the main callback has not run")
    return session


def ask(context: typer.Context, question: Callable[[GatewayClient], Awaitable[T]]) -> T:
    """Open a client, ask one thing, close it."""

    async def answer() -> T:
        async with session_of(context).gateway() as client:
            return await question(client)

    return asyncio.run(answer())


def ask_objects(context: typer.Context, question: Callable[[Objects], Awaitable[T]]) -> T:
    """The same with the platform's store."""

    async def answer() -> T:
        async with session_of(context).objects() as objects:
            return await question(objects)

    return asyncio.run(answer())


def confirm(question: str) -> None:
    """Return when the user agrees.

    Raises:
        CliError: There is nobody to ask.
        typer.Exit: The user does not agree.
    """
    if not sys.stdin.isatty():
        raise CliError(f"{question} give --yes when there is nobody to ask", Exit.USAGE)
    if not typer.confirm(question, err=True):
        raise typer.Exit(Exit.FAILED)
