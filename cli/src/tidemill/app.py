"""The command line: options that hold for every command, and the commands."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from tidemill.commands import accounting, dead, doctor, files, history, invocations, platform, services
from tidemill.connection import Wishes
from tidemill.session import Session

app = typer.Typer(
    name="tidemill",
    help="A file arrives, a result is stored where it belongs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tidemill {installed_version('tidemill')}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    endpoint: Annotated[str | None, typer.Option(help="URL of the gateway. [TIDEMILL_ENDPOINT]")] = None,
    username: Annotated[str | None, typer.Option(help="Name to log in with. [TIDEMILL_USERNAME]")] = None,
    password_stdin: Annotated[bool, typer.Option(help="Read the password from standard input.")] = False,
    cluster: Annotated[str | None, typer.Option("--cluster", "-c", help="Entry of ~/.oscar-cli/config.yaml.")] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Directory of `tidemill up`; else .tidemill here or above.")
    ] = None,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options for all commands; they stand before the command's name."""
    password = sys.stdin.readline().rstrip("\n") if password_stdin else None
    wishes = Wishes(endpoint=endpoint, username=username, password=password, cluster=cluster)
    context.obj = Session(wishes=wishes, directory=directory)


for module in (platform, services, files, invocations, history, dead, accounting, doctor):
    module.register(app)
