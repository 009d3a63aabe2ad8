"""Which file goes where: the outputs of a Service applied to what a script left in TMP_OUTPUT_DIR."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemill_common.contracts.contract import InvocationId
from tidemill_common.contracts.event import ArtifactRef
from tidemill_common.contracts.service import StorageIO

INVOCATION_KEY: Final = "tidemill-invocation"
SHA256_KEY: Final = "tidemill-sha256"
"""User metadata of every output: which Invocation wrote it, and the checksum of its content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFile:
    """A file that a script left behind."""

    name: str
    """Relative to TMP_OUTPUT_DIR, with `/`."""
    path: Path
    size_bytes: int
    sha256: str = ""
    """Hexadecimal; empty: not computed, because no output takes this file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One file on its way to one place; the place is a function of the Service and the file's name alone."""

    file: OutputFile
    provider: str
    path: str

    def metadata(self, invocation: InvocationId) -> dict[str, str]:
        """What the stored object says of its origin."""
        return {INVOCATION_KEY: invocation, SHA256_KEY: self.file.sha256}

    def stored(self, *, etag: str | None, version: str | None) -> ArtifactRef:
        """The object that it became."""
        return ArtifactRef(
            provider=self.provider, path=self.path, etag=etag, size=self.file.size_bytes, version=version
        )


def is_wanted(name: str, outputs: Iterable[StorageIO]) -> bool:
    """Whether any output takes a file of this name."""
    return any(output.passes(name) for output in outputs)


def plan_uploads(files: Iterable[OutputFile], outputs: Iterable[StorageIO]) -> tuple[Upload, ...]:
    """Every file to each output that takes it (OSCAR contract 6.4), each place once, in a stable order."""
    ordered = sorted(files, key=lambda file: file.name)
    planned = (
        Upload(file=file, provider=output.storage_provider, path=f"{output.path}/{file.name}")
        for output in outputs
        for file in ordered
        if output.passes(file.name)
    )
    return tuple({(upload.provider, upload.path): upload for upload in planned}.values())
