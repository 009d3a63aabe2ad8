"""Keeps the bus's data when its account changes: a server keeps each account's Streams in a directory of its name.

Installations made before accounts had keys have theirs in `$G`. Nothing is copied or removed: a directory is renamed
while the server stands still, or the start is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tidemill.errors import CliError

_STORE: Final = "jetstream"


def accounts_with_streams(server: Path) -> list[Path]:
    """Directories of the accounts that have any.

    Args:
        server: The server's directory.
    """
    return [directory for directory in _accounts(server / _STORE / _STORE) if _has_streams(directory)]


def adopt_streams(server: Path, account: str) -> Path | None:
    """Let the account have the Streams that are there; returns where they were, None: nothing had to be done.

    Args:
        server: The server's directory.

    Raises:
        CliError: Several accounts have Streams: whose are the right ones is for a person to say.
    """
    store = server / _STORE / _STORE
    found = accounts_with_streams(server)
    others = [directory for directory in found if directory.name != account]
    if not others:
        return None
    if len(found) > 1:
        names = ", ".join(sorted(directory.name for directory in found))
        raise CliError(f"several accounts of the bus have data below {store}: {names}; move away those not wanted")
    ours = store / account
    if ours.exists():
        _remove_empty(ours)
    others[0].rename(ours)
    return others[0]


def _accounts(store: Path) -> list[Path]:
    return [each for each in store.iterdir() if each.is_dir()] if store.is_dir() else []


def _has_streams(account: Path) -> bool:
    streams = account / "streams"
    return streams.is_dir() and any(streams.iterdir())


def _remove_empty(directory: Path) -> None:
    """Remove directories that hold nothing.

    Raises:
        OSError: Something is in them.
    """
    for each in directory.iterdir():
        _remove_empty(each)
    directory.rmdir()
