"""A user container without a container engine: the runner as process 1 of namespaces of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemill_common.runner import runner_command

IMAGE_ENVIRONMENT: Final = {
    "PATH": "/opt/image/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C",
    "IMAGE_SAYS": "it's mine",
}
SHELLS: Final = {"dash": ("/bin/dash",), "busybox": ("busybox", "sh"), "bash": ("/bin/bash",)}
CAN_UNSHARE: Final = os.geteuid() == 0 and shutil.which("unshare") is not None


@dataclass(frozen=True)
class UserContainer:
    """One that runs."""

    process: subprocess.Popen[bytes]

    @property
    def init(self) -> int:
        """Its process 1, as we see it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    @property
    def proc(self) -> Path:
        """Its /proc."""
        return Path(f"/proc/{self.init}/root/proc")

    async def ends(self) -> int:
        """Its exit code."""
        return await asyncio.to_thread(self.process.wait, 60)

    async def catches(self, number: signal.Signals) -> None:
        """Return when its process 1 has a handler; before that it does not even notice the signal."""
        async with asyncio.timeout(60):
            while not self._caught() >> (number - 1) & 1:
                await asyncio.sleep(0.005)

    def _caught(self) -> int:
        """The signals that process 1 handles, as a mask; 0: it is not there yet."""
        with suppress(OSError, IndexError):
            rows = Path(f"/proc/{self.init}/status").read_text().splitlines()
            return next(int(row.split()[1], 16) for row in rows if row.startswith("SigCgt:"))
        return 0


@contextmanager
def user_container(
    directory: Path,
    shell: Sequence[str] = ("/bin/sh",),
    *,
    environment: dict[str, str] | None = None,
    user: int | None = None,
) -> Iterator[UserContainer]:
    """Start one; killed at the end if it has not ended.

    Args:
        user: Whom it runs as; None: as root.
    """
    drop = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    process = subprocess.Popen(
        [
            *(shutil.which("unshare") or "unshare", "--pid", "--fork", "--mount-proc", "--kill-child"),
            *drop,
            *shell,
            *runner_command(str(directory))[1:],
        ],
        env=IMAGE_ENVIRONMENT if environment is None else environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )
    try:
        yield UserContainer(process)
    finally:
        process.kill()
        process.wait()
