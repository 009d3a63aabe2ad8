"""The directory of one Attempt, and how nothing of it stays behind.

Each Worker process has a directory of its own with a lock that ends with the process; a directory whose lock is free
belongs to a Worker that died, and is removed by the next one that starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tidemill_common.errors import ConflictError
from tidemill_common.runner import ENDED
from tidemill_supervisor.domain.environment import Place

_LOCK: Final = ".lock"
_FULL_BELOW_BYTES: Final = 1024**2


@contextlib.contextmanager
def own_directory(base: Path, worker: str, *, is_shared: bool = False) -> Iterator[Path]:
    """The directory of this Worker, empty and locked; removed at the end.

    Args:
        is_shared: The user's container sees it as well. It is found by any user there, and stays at the end, empty but
            for the mark by which a container that comes too late knows that nobody waits for it.

    Raises:
        ConflictError: A Worker of this id runs already.
    """
    directory = base.resolve() / worker  # user code could lay links later
    descriptor = _locked(directory)
    try:
        _empty(directory)
        if is_shared:
            directory.chmod(0o755)
        yield directory
    finally:
        if is_shared:
            _empty(directory)
            (directory / ENDED).touch()
        else:
            remove_tree(directory)
        os.close(descriptor)


def _empty(directory: Path) -> None:
    for left in directory.iterdir():
        if left.name != _LOCK:
            remove_tree(left)


def _locked(directory: Path) -> int:
    """Make the directory and hold its lock; again when it was just being removed as abandoned."""
    while True:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (made := _new_lock(directory)) is not None:
            return made
        try:
            descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise ConflictError(f"lock {directory}: another Worker of this id runs") from error
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def _new_lock(directory: Path) -> int | None:
    """A lock that nobody sees before it is held: else whoever looks for dead Workers just then could take it from us.

    None: there is one already, or this file system has no links.
    """
    name = directory / f"{_LOCK}.{os.getpid()}"
    with contextlib.suppress(OSError), contextlib.ExitStack() as undo:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        undo.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.link(name, directory / _LOCK)
        finally:
            name.unlink(missing_ok=True)
        undo.pop_all()
        return descriptor
    return None


def remove_abandoned(base: Path) -> int:
    """Remove the directories of Workers that died; returns how many. Blocking, and as slow as they are large."""
    removed = 0
    for lock in base.glob(f"*/{_LOCK}"):
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(lock.parent)
            removed += 1
        except OSError:  # its Worker lives
            continue
        finally:
            os.close(descriptor)
    return removed


def furnish(place: Place, *, script: str, event: bytes) -> None:
    """Make the directories and write the files of one Attempt.

    Raises:
        OSError: The disk is full, or not ours.
    """
    for directory in (place.root, place.input, place.output, place.tmp):
        directory.mkdir(mode=0o777)  # the umask decides: user code in a container may run as any user
    place.event_file.write_bytes(event)
    place.script.write_text(script, encoding="utf-8", errors="surrogateescape")
    place.script.chmod(0o755)


def fresh(path: Path) -> Path:
    """The path of a new file in a workspace, made here: what user code put in its place, a link for one, is gone.

    Raises:
        OSError: The workspace is none any more, or something there cannot be removed.
    """
    folder = os.open(path.parent, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path.name, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(path.name, flags, 0o600, dir_fd=folder))
    finally:
        os.close(folder)
    return path


def remove_tree(directory: Path) -> None:
    """Remove a directory with all that is in it, also what user code made unwritable."""

    def allow_and_retry(action: Callable[[str], object], path: str, _: object) -> None:
        with contextlib.suppress(OSError):
            if Path(path) != directory:
                Path(path).parent.chmod(stat.S_IRWXU)
            if not Path(path).is_symlink():
                Path(path).chmod(stat.S_IRWXU)
            if Path(path).is_dir() and not Path(path).is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                action(path)

    if directory.is_symlink() or directory.is_file():
        directory.unlink()
    elif directory.exists():
        shutil.rmtree(directory, onerror=allow_and_retry)


def used_bytes(directory: Path) -> int:
    """What the files below take on disk; files that vanish meanwhile count nothing. Blocking."""
    total = 0
    waiting = [str(directory)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except OSError:
            continue
    return total


def is_disk_full(directory: Path) -> bool:
    """Whether nothing is left for user code on this file system."""
    try:
        found = os.statvfs(directory)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _FULL_BELOW_BYTES
