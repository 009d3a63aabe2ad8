"""`dead`: Invocations that were set aside with their reason."""

from __future__ import annotations

from typing import Annotated, Final

import httpx
import typer

from tidemill.client import GatewayClient
from tidemill.errors import CliError, Exit
from tidemill.output import Column, Format, FormatOption, out, show_json, show_rows, show_yaml
from tidemill.session import ask, confirm

_COLUMNS: Final = (
    Column("ID", "invocation_id"),
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
        show_yaml(found)


def redrive(
    context: typer.Context, letters: IdsArgument = None, everything: AllOption = False, service: ServiceOption = None
) -> None:
    """Let dead letters run again, as new Invocations; prints the new ids."""
    _check_choice(letters, everything)

    async def redrive_chosen(client: GatewayClient) -> dict[str, str]:
        for one in letters or []:
            answer = await client.request("POST", f"/v1/dead-letters/{one}/redrive", missing=f"dead letter {one}")
            out.print(answer.json()["id"])
        return await _redrive_all(client, service) if everything else {}

    failed = ask(context, redrive_chosen)
    if failed:
        raise CliError("\n".join(f"{letter}: {why}" for letter, why in failed.items()))


async def _redrive_all(client: GatewayClient, service: str | None) -> dict[str, str]:
    """Redrive until there are no more; returns those that could not be, and why."""
    body = {"service": service} if service else {}
    while True:
        patience = httpx.Timeout(300, connect=5)
        answer = (await client.request("POST", "/v1/dead-letters/redrive", json=body, timeout=patience)).json()
        for new in answer["invocations"].values():
            out.print(new)
        failed: dict[str, str] = answer["failed"]
        if failed or not answer["more"]:
            return failed


def purge(
    context: typer.Context,
    letters: IdsArgument = None,
    everything: AllOption = False,
    service: ServiceOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Forget dead letters for good."""
    _check_choice(letters, everything)
    if not yes:
        confirm("forget these dead letters?")

    async def purge_chosen(client: GatewayClient) -> int:
        for one in letters or []:
            await client.request("DELETE", f"/v1/dead-letters/{one}", missing=f"dead letter {one}")
        return await _purge_all(client, service) if everything else len(letters or [])

    out.print(f"{ask(context, purge_chosen)} forgotten")


async def _purge_all(client: GatewayClient, service: str | None) -> int:
    total = 0
    while True:
        query = {"service": service} if service else {}
        count = int((await client.request("DELETE", "/v1/dead-letters", params=query)).json()["purged"])
        total += count
        if count == 0:
            return total


def _check_choice(letters: list[str] | None, everything: bool) -> None:
    if bool(letters) == everything:
        raise CliError("give ids, or --all", Exit.USAGE)
