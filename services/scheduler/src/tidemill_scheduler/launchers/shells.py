"""Images without `/bin/sh`: how they are known, and the static shell that their Workers bring.

Nothing is asked of an image beforehand, so ordinary ones pay nothing: the first start of one without a shell fails, the
runtime says why, and from then on its Workers have a directory of programs mounted at `DIRECTORY` and its busybox at
`/bin/sh`. Scripts, and programs that call `system`, find a shell where they expect it.
"""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Final

DIRECTORY: Final = "/tidemill-shell"
"""In the user's container: `PROGRAM`, and links to it by the names of its applets."""
PROGRAM: Final = "busybox"
SHELL: Final = "/bin/sh"
_MISSING: Final = re.compile(
    r"exec: \"/bin/sh\": (stat /bin/sh: no such file or directory|executable file not found)"  # runc
    r"|executable file [`'\"]/bin/sh[`'\"] not found"  # crun
    r"|failed to load /bin/sh: no such file or directory",  # gVisor
    re.IGNORECASE,
)


def lacks_shell(message: str) -> bool:
    """Whether a container runtime says that the image has no `/bin/sh`."""
    return _MISSING.search(message) is not None


class ShelllessImages:
    """Those that were found out in this process; the first start of each after a restart fails once more."""

    def __init__(self) -> None:
        self._images: set[str] = set()

    def __contains__(self, image: str) -> bool:
        return image in self._images

    def add(self, image: str) -> None:
        """Its Workers bring a shell from now on."""
        self._images.add(image)

    def keep(self, images: Set[str]) -> None:
        """Forget all others: no Service has them any more, and a tag may come back as another image."""
        self._images &= images
