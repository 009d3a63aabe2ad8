"""`put` and `get-file`: files to and from the platform's store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from tidemill.errors import CliError, Exit
from tidemill.objects import Objects, destination
from tidemill.output import Format, FormatOption, err, out, show_json
from tidemill.session import ask_objects
from tidemill_common.storage import ObjectInfo

_AT_ONCE: Final = 4
"""Files that are moved at a time; large ones are parallel in themselves."""

Move = tuple[str, int, Callable[[Callable[[int], None]], Awaitable[object]]]
"""(name, bytes, how to move it telling of its progress)."""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(put)
    app.command("get-file")(get_file)


def put(
    context: typer.Context,
    arguments: Annotated[list[str], typer.Argument(metavar="FILE... BUCKET/FOLDER/", help="Files, then where to.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """Upload files; a target that ends in `/` (or several files) is a folder."""
    *names, target = arguments
    if not names:
        raise CliError("give at least one file and where it goes: put FILE... bucket/folder/", Exit.USAGE)
    sources = [Path(name) for name in names]
    for source in sources:
        if not source.is_file():
            raise CliError(f"{source} is not a file", Exit.NOT_FOUND)
    pairs = [(source, destination(source, target, several=len(sources) > 1)) for source in sources]
    ask_objects(context, lambda objects: _upload(objects, pairs))
    if form is Format.JSON:
        show_json([{"file": str(source), "path": path} for source, path in pairs])
    else:
        for source, path in pairs:
            out.print(f"{source} -> {path}", markup=False)


async def _upload(objects: Objects, pairs: list[tuple[Path, str]]) -> None:
    def move(source: Path, path: str) -> Move:
        return source.name, source.stat().st_size, lambda progress: objects.upload(source, path, progress)

    await _move_all([move(source, path) for source, path in pairs])


def get_file(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="bucket/key, or bucket/folder/ for all that is below it.")],
    target: Annotated[Path, typer.Argument(help="File or folder to write.")] = Path("."),
    form: FormatOption = Format.TABLE,
) -> None:
    """Download an object, or a folder of them."""
    written = ask_objects(context, lambda objects: _download(objects, path, target))
    if form is Format.JSON:
        show_json([{"path": stored, "file": str(file)} for stored, file in written])
    else:
        for stored, file in written:
            out.print(f"{stored} -> {file}", markup=False)


async def _download(objects: Objects, path: str, target: Path) -> list[tuple[str, Path]]:
    found = await objects.list(path)
    if not found:
        raise CliError(f"there is no object {path}", Exit.NOT_FOUND)
    single = len(found) == 1 and found[0].path == path.strip("/")
    pairs = []
    for info in found:
        name = Path(info.path).name if single else info.path.removeprefix(f"{path.strip('/')}/")
        file = target if single and not target.is_dir() else _inside(target, name)
        file.parent.mkdir(parents=True, exist_ok=True)
        pairs.append((info, file))
    await _move_all([_fetch(objects, info, file) for info, file in pairs])
    return [(info.path, file) for info, file in pairs]


def _fetch(objects: Objects, info: ObjectInfo, file: Path) -> Move:
    return file.name, info.size_bytes, lambda progress: objects.download(info.path, file, progress)


def _inside(folder: Path, name: str) -> Path:
    """A path below `folder`: a key such as `../x` must not write elsewhere."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise CliError(f"{name!r} would be written outside of {folder}")
    return path


async def _move_all(moves: list[Move]) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    slots = asyncio.Semaphore(_AT_ONCE)
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:

        async def move_one(name: str, size: int, how: Callable[[Callable[[int], None]], Awaitable[object]]) -> None:
            async with slots:
                task = progress.add_task(name, total=size)
                await how(lambda moved: progress.advance(task, moved))

        try:
            async with asyncio.TaskGroup() as group:
                for name, size, how in moves:
                    group.create_task(move_one(name, size, how))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
