"""`accounts`, `reconcile`: does everything add up, and what was never told."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from tidemill.errors import CliError
from tidemill.output import Column, Format, FormatOption, out, show_json, show_rows
from tidemill.session import ask

_COUNTS: Final = ("requested", "succeeded", "failed", "dead", "cancelled", "pending", "running")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(accounts)
    app.command()(reconcile)


def accounts(context: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """Show each Service's account; exit code 1 when one does not balance."""
    rows = ask(context, lambda client: client.get("/v1/accounts"))["items"]
    columns = (
        Column("SERVICE", "service"),
        *(Column(name.upper(), name, right=True) for name in _COUNTS),
        Column("ON THE BUS", "open_on_bus", right=True),
        Column("BALANCED", "balanced"),
    )
    show_rows(rows, columns, form)
    wrong = [row["service"] for row in rows if not row["balanced"]]
    if wrong:
        raise CliError(f"accounts do not balance: {', '.join(wrong)}")


def reconcile(
    context: typer.Context,
    service: Annotated[str, typer.Argument(help="Whose input folders are compared with the Events.")],
    backfill: Annotated[
        bool, typer.Option("--backfill", help="Also submit objects older than the oldest Event that is kept.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Find stored objects of which no notification came, and submit them."""
    body = {"backfill": backfill, "dry_run": dry_run}
    path = f"/v1/services/{service}/reconcile"
    answer = ask(context, lambda c: c.request("POST", path, json=body, missing=f"Service {service}")).json()
    if form is Format.JSON:
        show_json(answer)
    else:
        out.print(f"listed {answer['listed']}, missing {answer['missing']}, submitted {answer['submitted']}")
    if answer.get("error"):
        raise CliError(f"not complete: {answer['error']}")
