"""The answer of a direct call (OSCAR contract 6.5): the output file, a ZIP of several, or what the script wrote."""

from __future__ import annotations

import asyncio
import base64
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tidemill_common.contracts.contract import InvocationId
from tidemill_common.contracts.event import ArtifactRef
from tidemill_common.contracts.invocation import Reason
from tidemill_common.contracts.service import DEFAULT_PROVIDER
from tidemill_common.errors import TidemillError
from tidemill_supervisor.domain.environment import Place
from tidemill_supervisor.domain.outputs import OutputFile
from tidemill_supervisor.patience import patiently
from tidemill_supervisor.ports import Stores
from tidemill_supervisor.staging import staging_error
from tidemill_supervisor.workspace import fresh

INLINE_BYTES: Final = 32 * 1024
"""Larger results are stored, and travel by reference."""
_CHUNK_BYTES: Final = 3 * 256 * 1024
"""A multiple of three, so that pieces of base64 can be joined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Either of them, or none."""

    inline: bytes | None = None
    ref: ArtifactRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Makes answers, and stores the large ones."""

    stores: Stores
    system_bucket: str
    limit_bytes: int
    """Files beyond this together are no answer; they are in the outputs alone."""

    async def of_text(self, text: bytes, invocation: InvocationId, place: Place) -> Result:
        """What the script wrote."""
        if len(text) <= INLINE_BYTES:
            return Result(inline=text)
        path = fresh(place.root / "result")
        await asyncio.to_thread(path.write_bytes, text)
        return await self._store(path, invocation, "text/plain; charset=utf-8")

    async def of_files(self, files: Sequence[OutputFile], invocation: InvocationId, place: Place) -> Result | None:
        """The base64 of one file or of a ZIP of several; None: there are none, or they are too large.

        Raises:
            StagingError: It is large, and cannot be stored.
        """
        if not files or sum(file.size_bytes for file in files) > self.limit_bytes:
            return None
        path = fresh(place.root / "result")
        await asyncio.to_thread(_write, files, path)
        if path.stat().st_size <= INLINE_BYTES:
            return Result(inline=path.read_bytes())
        return await self._store(path, invocation, "text/plain; charset=us-ascii")

    async def _store(self, path: Path, invocation: InvocationId, content_type: str) -> Result:
        target = f"{self.system_bucket}/results/{invocation}"
        try:
            store = await self.stores.open(DEFAULT_PROVIDER)
            step = partial(store.upload, path, target, content_type=content_type)
            info = await patiently(step, self.stores.pauses)
        except TidemillError as error:
            raise staging_error(Reason.STAGE_OUT_FAILED, f"store the result at {target}", error) from error
        return Result(ref=ArtifactRef(path=target, etag=info.etag, size=info.size_bytes))


def _write(files: Sequence[OutputFile], target: Path) -> None:
    if len(files) == 1:
        _encode(files[0].path, target)
        return
    archive = fresh(target.with_suffix(".zip"))
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED, strict_timestamps=False) as whole:
        for file in files:
            whole.write(file.path, file.name)
    _encode(archive, target)
    archive.unlink()


def _encode(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            writer.write(base64.b64encode(chunk))
