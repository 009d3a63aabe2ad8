"""`dead`: Invocations that were set aside with their reason."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer
import yaml

from tidemill.client import GatewayClient
from tidemill.errors import CliError, Exit
from tidemill.output import Column, Format, FormatOption, out, show_json, show_rows
from tidemill.session import ask

_COLUMNS: Final = (
    Column("ID", "id"),
    Column("SERVICE", "service"),
    Column("REASON", "reason"),
    Column("ATTEMPTS", "attempts", right=True),
    Column("AT", "at"),
    Column("MESSAGE", "message"),
)
IdsArgument = Annotated[list[str] | None, typer.Argument(help="Ids of Invocations.")]
AllOption = Annotated[bool, typer.Option("--all", help="All of them (of --service, if given).")]
ServiceOption = Annotated[str | None, typer.Option("--service", "-s", help="Only of this Service.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    group = typer.Typer(help="Dead letters: list, show, redrive, purge.", no_args_is_help=True)
    group.command("ls")(list_letters)
    group.command()(show)
    group.command()(redrive)
    group.command()(purge)
    app.add_typer(group, name="dead")


def list_letters(
    context: typer.Context,
    service: ServiceOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="At most so many.")] = 50,
    form: FormatOption = Format.TABLE,
) -> None:
    """List dead letters, newest first."""
    show_rows(ask(context, lambda c: c.pages("/v1/dead-letters", limit=limit, service=service)), _COLUMNS, form)


def show(
    context: typer.Context,
    letter: Annotated[str, typer.Argument(help="Id of the Invocation.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show one dead letter whole: Event, reason, last lines."""
    found = ask(context, lambda client: client.get(f"/v1/dead-letters/{letter}", missing=f"dead letter {letter}"))
    if form is Format.JSON:
        show_json(found)
    else:
        out.print(yaml.safe_dump(found, sort_keys=False, allow_unicode=True), markup=False, end="")


def redrive(
    context: typer.Context, letters: IdsArgument = None, everything: AllOption = False, service: ServiceOption = None
) -> None:
    """Let dead letters run again, as new Invocations; prints the new ids."""
    chosen = _chosen(context, letters, everything, service)

    async def redrive_all(client: GatewayClient) -> None:
        for one in chosen:
            answer = await client.request("POST", f"/v1/dead-letters/{one}/redrive", missing=f"dead letter {one}")
            out.print(answer.json()["invocation_id"])

    ask(context, redrive_all)


def purge(
    context: typer.Context,
    letters: IdsArgument = None,
    everything: AllOption = False,
    service: ServiceOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget dead letters for good."""
    chosen = _chosen(context, letters, everything, service)
    if not yes:
        if not sys.stdin.isatty():
            raise CliError("give --yes when there is nobody to ask", Exit.USAGE)
        if not typer.confirm(f"forget {len(chosen)} dead letters?", err=True):
            raise typer.Exit(Exit.FAILED)

    async def purge_all(client: GatewayClient) -> None:
        for one in chosen:
            await client.request("DELETE", f"/v1/dead-letters/{one}", missing=f"dead letter {one}")

    ask(context, purge_all)
    out.print(f"{len(chosen)} forgotten")


def _chosen(context: typer.Context, letters: list[str] | None, everything: bool, service: str | None) -> list[str]:
    if bool(letters) == everything:
        raise CliError("give ids, or --all", Exit.USAGE)
    if letters:
        return letters

    async def all_ids(client: GatewayClient) -> list[str]:
        return [str(one["id"]) for one in await client.pages("/v1/dead-letters", service=service)]

    return ask(context, all_ids)
