"""An image without a shell: one static program, `/app/reader`, which is an interpreter."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.servers import missing


def file_system(directory: Path) -> bytes:
    """All that is in the image, as a tar archive."""
    compiler = shutil.which("gcc")
    if compiler is None:
        missing("gcc")
    reader = directory / "reader"
    source = Path(__file__).with_name("reader.c")
    subprocess.run([str(compiler), "-static", "-O1", "-o", str(reader), str(source)], check=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(reader, "app/reader")
    return buffer.getvalue()
