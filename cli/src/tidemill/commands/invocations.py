"""`run`, `job`, `status`, `wait`, `logs`: one Invocation, from the call to its end."""

from __future__ import annotations

import base64
import binascii
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape

from tidemill.client import INVOCATION_HEADER, GatewayClient
from tidemill.errors import CliError, Exit
from tidemill.output import Format, FormatOption, coloured, err, out, show_json
from tidemill.session import ask
from tidemill.waiting import ENDED, wait_for

FileOption = Annotated[
    Path | None, typer.Option("-f", "--file-input", help="File to send.", exists=True, dir_okay=False)
]
TextOption = Annotated[str | None, typer.Option("-i", "--text-input", help="Text to send.")]
IdArgument = Annotated[str, typer.Argument(help="The Invocation's id.")]

_FIELDS: Final = (
    ("service", "service"),
    ("attempts", "attempts"),
    ("reason", "reason"),
    ("message", "message"),
    ("exit code", "exit_code"),
    ("worker", "worker"),
    ("trigger", "trigger"),
    ("event", "event_id"),
    ("requested", "requested_at"),
    ("started", "started_at"),
    ("finished", "finished_at"),
    ("repeats", "redrive_of"),
)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(run)
    app.command()(job)
    app.command()(status)
    app.command()(wait)


def _body(file: Path | None, text: str | None) -> bytes:
    """The body as OSCAR's clients send it: base64 of the file or text."""
    if (file is None) == (text is None):
        raise CliError("give one of --file-input (-f) and --text-input (-i)", Exit.USAGE)
    return base64.b64encode(file.read_bytes() if file is not None else (text or "").encode())


def run(
    context: typer.Context,
    service: Annotated[str, typer.Argument(help="Its name.")],
    file: FileOption = None,
    text: TextOption = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the answer to this file.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 300,
) -> None:
    """Call a Service and print its answer."""
    body = _body(file, text)
    answer = ask(context, lambda client: client.run(service, body, timeout_seconds=timeout))
    content = decoded(answer.content)
    if output is not None:
        output.write_bytes(content)
        err.print(f"{len(content)} bytes -> {output} (Invocation {answer.headers.get(INVOCATION_HEADER, '?')})")
        return
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def decoded(body: bytes) -> bytes:
    """The answer behind base64, if the whole body is base64; else the body."""
    try:
        return base64.b64decode(body.strip(), validate=True) if body.strip() else body
    except binascii.Error:
        return body


def job(
    context: typer.Context,
    service: Annotated[str, typer.Argument(help="Its name.")],
    file: FileOption = None,
    text: TextOption = None,
    follow: Annotated[bool, typer.Option("--wait", "-w", help="Wait for its end.")] = False,
) -> None:
    """Call a Service without waiting; prints the Invocation's id."""
    body = _body(file, text)
    invocation = ask(context, lambda client: client.job(service, body))
    out.print(invocation)
    if follow:
        _wait(context, [invocation], None, Format.TABLE)


def status(context: typer.Context, invocation: IdArgument, form: FormatOption = Format.TABLE) -> None:
    """Show what became of an Invocation; exit code 1 when it failed."""
    found = ask(context, lambda client: client.invocation(invocation))
    if form is Format.JSON:
        show_json(found)
    else:
        _show(found)
    if found["phase"] in ("Failed", "Cancelled"):
        raise typer.Exit(Exit.FAILED)


def _show(found: dict[str, Any]) -> None:
    out.print(f"[bold]{found['id']}[/] {coloured(found['phase'])}")
    for name, field in _FIELDS:
        if found.get(field) not in (None, "", 0):
            out.print(f"  {name:<10} {escape(str(found[field]))}")
    if (source := found.get("input")) is not None:
        out.print(f"  {'input':<10} {escape(source['path'])}")
    for stored in found.get("outputs") or []:
        out.print(f"  {'output':<10} {escape(stored['path'])}")
    if found.get("log_tail") and found["phase"] != "Succeeded":
        out.print("  last lines:")
        for line in str(found["log_tail"]).splitlines()[-15:]:
            out.print(f"    {line}", markup=False)


def wait(
    context: typer.Context,
    invocations: Annotated[list[str], typer.Argument(help="Ids.")],
    timeout: Annotated[float | None, typer.Option(help="Seconds; then exit code 1.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Wait until Invocations have ended; exit code 1 when one did not succeed."""
    _wait(context, invocations, timeout, form)


def _wait(context: typer.Context, invocations: list[str], timeout: float | None, form: Format) -> None:
    deadline = None if timeout is None else time.monotonic() + timeout

    async def until_ended(client: GatewayClient) -> list[dict[str, Any]]:
        return [await wait_for(client, invocation, deadline) for invocation in invocations]

    found = ask(context, until_ended)
    if form is Format.JSON:
        show_json(found)
    else:
        for one in found:
            out.print(f"{one['id']} {coloured(one['phase'])} {escape(one.get('message') or one.get('reason') or '')}")
    if any(one["phase"] not in ENDED for one in found):
        raise CliError("not ended within the time given")
    if any(one["phase"] != "Succeeded" for one in found):
        raise typer.Exit(Exit.FAILED)
