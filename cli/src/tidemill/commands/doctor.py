"""`doctor`: is everything as it should be, and if not, what to do."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict
from typing import Final

import typer
from rich.markup import escape

from tidemill import checks
from tidemill.checks import Finding, Verdict
from tidemill.client import GatewayClient
from tidemill.errors import CliError, Exit
from tidemill.output import Format, FormatOption, out, show_json
from tidemill.platform.connection import Connection
from tidemill.platform.installation import Installation
from tidemill.platform.launching import Launcher, check_docker, kept
from tidemill.platform.layout import Layout
from tidemill.session import Session, session_of

_SIGNS: Final = {Verdict.GOOD: "[green]✓[/]", Verdict.ODD: "[yellow]![/]", Verdict.BAD: "[red]✗[/]"}


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(doctor)


def doctor(context: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """Check the machine and the platform; exit code 1 when something is wrong."""
    session = session_of(context)
    findings = [checks.python(), checks.programs(), *_local(session)]
    try:
        connection = session.connection
    except CliError as error:
        findings.append(Finding("connection", Verdict.BAD, str(error), "start a platform: tidemill up"))
    else:
        findings += asyncio.run(_remote(connection))
    if form is Format.JSON:
        show_json([asdict(finding) for finding in findings])
    else:
        _show(findings)
    if checks.worst(findings) is Verdict.BAD:
        raise typer.Exit(Exit.FAILED)


def _local(session: Session) -> list[Finding]:
    directory = session.local_directory
    if directory is None or session.wishes.endpoint is not None:
        return []
    try:
        installation = Installation.existing(directory)
    except CliError:
        return []
    layout = installation.layout
    return [
        *_docker(layout),
        checks.disk(layout.root),
        checks.processes(layout),
        checks.port_answers("bus", installation.nats.url, f"look at {layout.logs / 'nats.log'}"),
        checks.workers(layout),
    ]


def _docker(layout: Layout) -> list[Finding]:
    """The Docker Engine, where it is what runs user code."""
    if kept(layout, os.environ).launcher is not Launcher.DOCKER:
        return []
    try:
        return [Finding("docker", Verdict.GOOD, asyncio.run(check_docker(os.environ)))]
    except CliError as error:
        detail, _, advice = str(error).partition("\n")
        return [Finding("docker", Verdict.BAD, detail, advice)]


async def _remote(connection: Connection) -> list[Finding]:
    async with GatewayClient.open(connection) as client:
        findings = await checks.gateway(client)
        findings += [await checks.bridge(connection), await checks.store(connection, client)]
        if findings[0].verdict is Verdict.GOOD:
            findings += await checks.books(client)
    return findings


def _show(findings: list[Finding]) -> None:
    for finding in findings:
        out.print(f"{_SIGNS[finding.verdict]} {finding.check:<14} {escape(finding.detail)}")
        if finding.advice:
            out.print(f"  {'':<14} → {escape(finding.advice)}")
