"""`logs`, `events`, `cancel`, `retry`, `replay`: what has happened, and doing it again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.markup import escape

from tidemill.client import GatewayClient
from tidemill.commands.listing import EVENT_COLUMNS, INVOCATION_COLUMNS
from tidemill.errors import CliError, Exit
from tidemill.output import Format, FormatOption, out, show_json, show_rows
from tidemill.session import ask

ServiceOption = Annotated[str | None, typer.Option("--service", "-s", help="Only of this Service.")]
IdsArgument = Annotated[list[str], typer.Argument(help="Ids.")]
LimitOption = Annotated[int, typer.Option("--limit", "-n", help="At most so many.")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(logs)
    app.command()(invocations)
    app.command()(events)
    app.command()(cancel)
    app.command()(retry)
    app.command()(replay)


def invocations(
    context: typer.Context,
    service: ServiceOption = None,
    phase: Annotated[str | None, typer.Option(help="Pending, Running, Succeeded, Failed or Cancelled.")] = None,
    limit: LimitOption = 50,
    form: FormatOption = Format.TABLE,
) -> None:
    """List Invocations, newest first."""
    found = ask(context, lambda c: c.pages("/v1/invocations", limit=limit, service=service, phase=phase))
    show_rows(found, INVOCATION_COLUMNS, form)


def events(
    context: typer.Context,
    service: Annotated[
        str | None, typer.Option("--service", "-s", help="Only those that concern this Service.")
    ] = None,
    bucket: Annotated[str | None, typer.Option(help="Only of objects in this bucket.")] = None,
    since: Annotated[str | None, typer.Option(help="Instant (ISO 8601) of the first; else a day ago.")] = None,
    limit: LimitOption = 50,
    form: FormatOption = Format.TABLE,
) -> None:
    """List the newest Events that have arrived."""
    first = since or (datetime.now(UTC) - timedelta(days=1)).isoformat()

    async def newest(client: GatewayClient) -> list[dict[str, Any]]:
        query: dict[str, Any] = {"service": service, "bucket": bucket, "since": first, "limit": 500}
        return (await client.pages("/v1/events", page="start", **query))[-limit:]

    show_rows(ask(context, newest), EVENT_COLUMNS, form)


def logs(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="A Service's name, or an Invocation's id.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    limit: LimitOption = 10,
) -> None:
    """Print the output of an Invocation, or of a Service's newest ones."""
    ask(context, lambda client: _logs(client, what, follow=follow, limit=limit))


async def _logs(client: GatewayClient, what: str, *, follow: bool, limit: int) -> None:
    if await _is_invocation(client, what):
        await _logs_of(client, what, follow=follow, prefix="")
        return
    if await client.service(what) is None:
        raise CliError(f"there is no Service and no Invocation {what}", Exit.NOT_FOUND)
    newest = await client.pages("/v1/invocations", limit=limit, service=what)
    for one in reversed(newest):
        await _logs_of(client, one["id"], follow=False, prefix=f"[dim]{one['id'][:8]}[/] ")
    if follow:
        await _follow_service(client, what, known={one["id"] for one in newest})


async def _is_invocation(client: GatewayClient, what: str) -> bool:
    if len(what) != 32:
        return False
    try:
        await client.invocation(what)
    except CliError as error:
        if error.code is Exit.NOT_FOUND:
            return False
        raise
    return True


async def _logs_of(client: GatewayClient, invocation: str, *, follow: bool, prefix: str) -> None:
    path = f"/v1/invocations/{invocation}/logs"
    if follow:
        async for line in client.lines(path, follow="true"):
            out.print(f"{prefix}{escape(line)}")
        return
    text = (await client.request("GET", path, missing=f"Invocation {invocation}")).text
    for line in text.splitlines():
        out.print(f"{prefix}{escape(line)}")


async def _follow_service(client: GatewayClient, service: str, known: set[str]) -> None:
    async with asyncio.TaskGroup() as group:
        while True:
            for one in await client.pages("/v1/invocations", limit=50, service=service):
                if one["id"] not in known:
                    known.add(one["id"])
                    prefix = f"[dim]{one['id'][:8]}[/] "
                    group.create_task(_logs_of(client, one["id"], follow=True, prefix=prefix))
            await asyncio.sleep(1)


def cancel(context: typer.Context, invocations: IdsArgument) -> None:
    """Cancel Invocations: a running one is ended, a waiting one will not run."""

    async def cancel_all(client: GatewayClient) -> None:
        for one in invocations:
            await client.request("POST", f"/v1/invocations/{one}/cancel", missing=f"Invocation {one}")
            out.print(f"{one} cancelled")

    ask(context, cancel_all)


def retry(context: typer.Context, invocations: IdsArgument) -> None:
    """Run ended Invocations again, as new ones that are linked to them; prints the new ids."""

    async def retry_all(client: GatewayClient) -> None:
        for one in invocations:
            answer = await client.request("POST", f"/v1/invocations/{one}/retry", missing=f"Invocation {one}")
            out.print(answer.json()["id"])

    ask(context, retry_all)


def replay(
    context: typer.Context,
    service: Annotated[str, typer.Argument(help="Which Service handles the Events (again).")],
    since: Annotated[str, typer.Option(help="Instant (ISO 8601) of the first Event.")] = "1970-01-01T00:00:00Z",
    until: Annotated[str | None, typer.Option(help="Instant after the last Event; else now.")] = None,
    bucket: Annotated[str | None, typer.Option(help="Only of objects in this bucket.")] = None,
    name: Annotated[str | None, typer.Option("--id", help="Asking again with the same id adds nothing twice.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Let a Service handle Events of the past again, by its Triggers of today."""
    wish = {"service": service, "since": since, "until": until, "bucket": bucket, "id": name}
    body = {field: value for field, value in wish.items() if value is not None}
    answer = ask(context, lambda c: c.request("POST", "/v1/replays", json=body, missing=f"Service {service}")).json()
    if form is Format.JSON:
        show_json(answer)
    else:
        out.print(f"replay {answer['id']}: {answer['matched']} Events matched, {answer['appended']} run again")
