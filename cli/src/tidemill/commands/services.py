"""`apply`, `ls`, `get`, `rm`: Services, and what is where."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.markup import escape

from tidemill.client import GatewayClient
from tidemill.commands.listing import INVOCATION_COLUMNS
from tidemill.definitions import Action, Change, compare, describe, show_mistake
from tidemill.errors import CliError, Exit
from tidemill.images import wait_for_images
from tidemill.objects import Objects
from tidemill.output import Column, Format, FormatOption, err, out, show_json, show_rows, show_yaml
from tidemill.session import ask, ask_objects, confirm
from tidemill_common.fdl import FdlError, FdlService, load_fdl

_SERVICE_COLUMNS: Final = (
    Column("NAME", "name"),
    Column("IMAGE", "image"),
    Column("CPU", "cpu", right=True),
    Column("MEMORY", "memory", right=True),
    Column("INPUTS", "inputs"),
    Column("OUTPUTS", "outputs"),
)
_OBJECT_COLUMNS: Final = (
    Column("PATH", "path"),
    Column("SIZE", "size_bytes", right=True),
    Column("MODIFIED", "modified"),
)
_SIGNS: Final = {Action.CREATE: "green", Action.UPDATE: "yellow", Action.UNCHANGED: "dim"}


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(apply)
    app.command()(ls)
    app.command()(get)
    app.command()(rm)


def apply(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="FDL files, as OSCAR's.", exists=True, dir_okay=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before Services are changed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Create or update the Services of FDL files; shows first what will change."""
    wanted = [entry.document for file in files for entry in _load(file)]
    changes = ask(context, lambda client: _compare_all(client, wanted))
    if form is Format.JSON:
        show_json([{"service": c.service, "action": c.action, "fields": dict(c.fields)} for c in changes])
    else:
        _show(changes)
    if dry_run:
        return
    if any(change.action is Action.UPDATE for change in changes) and not yes:
        confirm("change these Services?")
    ask(context, lambda client: _carry_out(client, wanted, changes))
    _await_images(context, [str(document.get("image", "")) for document in wanted])


def _await_images(context: typer.Context, images: list[str]) -> None:
    failed = ask(context, lambda client: wait_for_images(client, images))
    for image, reason in failed.items():
        err.print(f"[red]image {escape(image)} cannot be had[/]: {escape(reason)}")
    if failed:
        raise typer.Exit(Exit.FAILED)


def _load(file: Path) -> list[FdlService]:
    try:
        return load_fdl(file)
    except FdlError as error:
        text = file.read_text("utf-8", "replace") if file.is_file() else None
        raise CliError(show_mistake(error, text), Exit.USAGE) from error


async def _compare_all(client: GatewayClient, wanted: list[dict[str, Any]]) -> list[Change]:
    return [compare(document, await client.service(str(document["name"]))) for document in wanted]


def _show(changes: list[Change]) -> None:
    for change in changes:
        first, *rest = describe(change)
        out.print(f"[{_SIGNS[change.action]}]{escape(first)}[/]")
        for line in rest:
            out.print(line, markup=False)


async def _carry_out(client: GatewayClient, wanted: list[dict[str, Any]], changes: list[Change]) -> None:
    methods = {Action.CREATE: "POST", Action.UPDATE: "PUT"}
    for document, change in zip(wanted, changes, strict=True):
        if (method := methods.get(change.action)) is not None:
            await client.request(method, "/system/services", json=document)


def ls(
    context: typer.Context,
    what: Annotated[str, typer.Argument(help="services, invocations, buckets, or a bucket/folder.")] = "services",
    form: FormatOption = Format.TABLE,
) -> None:
    """List Services, Invocations, buckets, or the objects of a folder."""
    match what:
        case "services":
            services = ask(context, lambda client: client.get("/system/services"))
            show_rows(services if form is Format.JSON else [_service_row(s) for s in services], _SERVICE_COLUMNS, form)
        case "invocations":
            show_rows(ask(context, lambda client: client.pages("/v1/invocations", limit=50)), INVOCATION_COLUMNS, form)
        case "buckets":
            rows = [{"name": name} for name in ask_objects(context, lambda objects: objects.buckets.buckets())]
            show_rows(rows, [Column("NAME", "name")], form)
        case _:
            show_rows(ask_objects(context, lambda objects: _objects(objects, what)), _OBJECT_COLUMNS, form)


def _service_row(service: dict[str, Any]) -> dict[str, Any]:
    paths = {side: [entry["path"] for entry in service.get(side) or []] for side in ("input", "output")}
    return {**service, "inputs": paths["input"], "outputs": paths["output"]}


async def _objects(objects: Objects, path: str) -> list[dict[str, Any]]:
    return [
        {"path": info.path, "size_bytes": info.size_bytes, "modified": info.modified.isoformat(), "etag": info.etag}
        for info in await objects.list(path)
    ]


def get(
    context: typer.Context,
    service: Annotated[str, typer.Argument(help="Its name.")],
    show_token: Annotated[bool, typer.Option("--show-token", help="Show the token with which it is called.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show the definition of a Service."""
    found = ask(context, lambda client: client.get(f"/system/services/{service}", missing=f"Service {service}"))
    if not show_token:
        found = {**found, "token": "hidden"}
    if form is Format.JSON:
        show_json(found)
    else:
        show_yaml(found)


def rm(
    context: typer.Context,
    services: Annotated[list[str], typer.Argument(help="Their names.")],
    delete_data: Annotated[bool, typer.Option("--delete-data", help="Remove their buckets' folders as well.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove Services; with --delete-data also the objects in their input and output folders."""
    if not yes:
        data = " and their data" if delete_data else ""
        confirm(f"remove {', '.join(services)}{data}?")
    for service in services:
        document = ask(context, partial(_remove, service=service))
        if not delete_data:
            err.print(f"{service}: removed; its buckets stay")
            continue
        count = ask_objects(context, partial(_delete_data, document=document))
        err.print(f"{service}: removed, with {count} objects")


async def _remove(client: GatewayClient, service: str) -> dict[str, Any]:
    path, missing = f"/system/services/{service}", f"Service {service}"
    document: dict[str, Any] = await client.get(path, missing=missing)
    await client.request("DELETE", path, missing=missing)
    return document


async def _delete_data(objects: Objects, document: dict[str, Any]) -> int:
    entries = [*(document.get("input") or []), *(document.get("output") or [])]
    paths = {entry["path"] for entry in entries if entry["storage_provider"] == "minio.default"}
    count = 0
    for path in paths:
        for info in await objects.list(path):
            await objects.store.delete(info.path)
            count += 1
    return count
