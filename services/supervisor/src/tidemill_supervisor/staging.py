"""Stage in and stage out: copies between stores and the workspace, each safe to repeat.

An output is written once: an object that this Invocation already wrote with the same content is left alone, so that
nothing downstream fires twice (docs/internals.md, "Outputs are written once").
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

from tidemill_common.contracts.contract import InvocationId
from tidemill_common.contracts.event import ArtifactRef
from tidemill_common.contracts.invocation import Reason
from tidemill_common.contracts.service import StorageIO
from tidemill_common.errors import ConflictError, InvalidInputError, NotFoundError, PermanentError, TidemillError
from tidemill_common.storage import ObjectInfo, ObjectStore
from tidemill_supervisor.domain.environment import Place
from tidemill_supervisor.domain.events import Recognised
from tidemill_supervisor.domain.outcome import Outcome
from tidemill_supervisor.domain.outputs import OutputFile, Upload, is_wanted, plan_uploads
from tidemill_supervisor.patience import patiently
from tidemill_supervisor.ports import Stores

_NAME_LIMIT_BYTES: Final = 255
"""Longest file name on Linux."""
_CHUNK_BYTES: Final = 1024**2


class StagingError(TidemillError):
    """Staging failed; carries the outcome of the Attempt."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message or outcome.reason)
        self.outcome = outcome


def staging_error(reason: Reason, what: str, error: TidemillError) -> StagingError:
    """The failure of one step; permanent errors make the outcome permanent."""
    permanent = isinstance(error, PermanentError)
    return StagingError(Outcome(reason=reason, message=f"{what}: {error}", permanent=permanent))


async def stage_in(event: Recognised, place: Place, stores: Stores, note: Callable[[str], None]) -> Path | None:
    """Bring the input of an Event into TMP_INPUT_DIR; returns its file.

    Raises:
        StagingError: The object is not there (for ever), or cannot be fetched now.
    """
    if event.artifact is None:
        target = place.input / f"event-file-{uuid.uuid4()}"
        await asyncio.to_thread(target.write_bytes, event.content or b"")
        return target
    target = place.input / input_name(event.artifact.path)
    what = f"stage in {event.artifact.provider}:{event.artifact.path}"
    try:
        store = await stores.open(event.artifact.provider)
        await patiently(partial(_download, store, event.artifact, target, note), stores.pauses)
    except NotFoundError as error:
        raise staging_error(Reason.INPUT_MISSING, what, error) from error
    except TidemillError as error:
        raise staging_error(Reason.STAGE_IN_FAILED, what, error) from error
    return target


def input_name(path: str) -> str:
    """A file name for an object: its last segment, made one that can be written and leads nowhere else."""
    name = PurePosixPath(path).name.replace("\0", "")
    if name in ("", ".", ".."):
        return "input"
    encoded = name.encode("utf-8", "surrogateescape")
    return name if len(encoded) <= _NAME_LIMIT_BYTES else encoded[-_NAME_LIMIT_BYTES:].decode("utf-8", "ignore")


async def _download(store: ObjectStore, artifact: ArtifactRef, target: Path, note: Callable[[str], None]) -> None:
    try:
        await store.download(artifact.path, target, etag=artifact.etag)
    except ConflictError:
        note(f"{artifact.path} has changed since its Event; this is its current content")
        await store.download(artifact.path, target)


async def check_outputs(outputs: Sequence[StorageIO], stores: Stores) -> None:
    """Open every provider that outputs go to, so that a wrong one is found before the script has worked for nothing.

    Raises:
        StagingError: One cannot be used.
    """
    for provider in {output.storage_provider for output in outputs}:
        try:
            await stores.open(provider)
        except TidemillError as error:
            raise staging_error(Reason.STAGE_OUT_FAILED, f"output to {provider}", error) from error


async def stage_out(
    files: Sequence[OutputFile],
    outputs: Sequence[StorageIO],
    *,
    invocation: InvocationId,
    stores: Stores,
    parallel: int,
) -> tuple[ArtifactRef, ...]:
    """Copy files to all outputs that take them, several at a time; returns the objects in a stable order.

    Raises:
        StagingError: One could not be written. Others may have been: the next Attempt leaves those alone.
    """
    room = asyncio.Semaphore(parallel)

    async def place_one(upload: Upload) -> ArtifactRef:
        async with room:
            return await _upload(upload, invocation, stores)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(place_one(upload)) for upload in plan_uploads(files, outputs)]
    except* StagingError as errors:
        raise _worst(errors) from errors
    return tuple(task.result() for task in tasks)


async def _upload(upload: Upload, invocation: InvocationId, stores: Stores) -> ArtifactRef:
    try:
        store = await stores.open(upload.provider)
        info = await patiently(partial(_write_once, store, upload, invocation), stores.pauses)
    except TidemillError as error:
        raise staging_error(Reason.STAGE_OUT_FAILED, f"stage out {upload.provider}:{upload.path}", error) from error
    return upload.stored(etag=info.etag, version=info.version)


async def _write_once(store: ObjectStore, upload: Upload, invocation: InvocationId) -> ObjectInfo:
    wanted = upload.metadata(invocation)
    info = await store.head(upload.path)
    if info is None or not _says(info, wanted):
        info = await store.upload(upload.file.path, upload.path, metadata=wanted)
    return info


def _says(info: ObjectInfo, wanted: dict[str, str]) -> bool:
    return all(info.metadata.get(key) == value for key, value in wanted.items())


def _worst(group: BaseExceptionGroup[StagingError]) -> StagingError:
    """A permanent failure of several, for no retry mends it."""
    errors = [error for error in group.exceptions if isinstance(error, StagingError)]
    return next((error for error in errors if error.outcome.permanent), errors[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What user code left behind for one Invocation."""

    workspace: Path
    """Files that lead out of it are not stored."""
    output: Path
    names: Mapping[str, str] | None = None
    """Names to store files under, and their names below `output`; None: all that is there, as it is named."""

    def files(self) -> list[tuple[str, Path]]:
        """Names and files, in a stable order. Blocking."""
        if self.names is None:
            return [(path.relative_to(self.output).as_posix(), path) for path in sorted(walk(self.output))]
        return [(name, self.output / where) for name, where in sorted(self.names.items())]

    def is_empty(self) -> bool:
        """Whether there is nothing; quick."""
        if self.names is not None:
            return not self.names
        with os.scandir(self.output) as entries:
            return next(entries, None) is None


def everything(place: Place) -> Left:
    """All that is in the TMP_OUTPUT_DIR of one Invocation."""
    return Left(workspace=place.root, output=place.output)


async def find_outputs(left: Left, outputs: Sequence[StorageIO], note: Callable[[str], None]) -> list[OutputFile]:
    """All files that were left, sorted by name, with the checksum of those that an output takes.

    Raises:
        StagingError: A file cannot be read, or its name cannot be a key.
    """
    try:
        if left.is_empty():
            return []
        found, skipped = await asyncio.to_thread(_scan, left, outputs)
    except (OSError, InvalidInputError) as error:
        outcome = Outcome(reason=Reason.STAGE_OUT_FAILED, message=f"read TMP_OUTPUT_DIR: {error}")
        raise StagingError(outcome) from error
    for name in skipped:
        note(f"{name} is not a file of this workspace and was not stored")
    return found


def _scan(left: Left, outputs: Sequence[StorageIO]) -> tuple[list[OutputFile], list[str]]:
    files: list[OutputFile] = []
    skipped: list[str] = []
    for name, path in left.files():
        if not _is_own_file(path, left.workspace):
            skipped.append(name)
            continue
        if not _is_text(name):
            raise InvalidInputError(f"the name {name!r} is not UTF-8")
        file = OutputFile(name=name, path=path, size_bytes=path.stat().st_size)
        files.append(replace(file, sha256=_sha256(path)) if is_wanted(name, outputs) else file)
    return files, skipped


def walk(directory: Path) -> Iterator[Path]:
    """Everything below that is no directory; links to directories are not followed."""
    for parent, folders, names in os.walk(directory):
        yield from (Path(parent, name) for name in names)
        yield from (Path(parent, name) for name in folders if Path(parent, name).is_symlink())


def _is_own_file(path: Path, workspace: Path) -> bool:
    """Whether it is a regular file inside the workspace: a link to elsewhere could name what the user may not see.

    The workspace is not resolved: user code may be root in its container, and put a link in its place.
    """
    return path.is_file() and path.resolve().is_relative_to(workspace)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # os.walk shows bytes that are no UTF-8 as surrogates
        return False
    return True


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
