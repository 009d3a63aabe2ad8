"""Workspaces: one owner, and nothing left behind."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest

from tests.unit.supervisor.builders import place
from tidemill_common.contracts.service import StorageIO
from tidemill_common.errors import ConflictError
from tidemill_supervisor.staging import everything, find_outputs
from tidemill_supervisor.workspace import fresh, furnish, own_directory, remove_abandoned, remove_tree, used_bytes


def test_the_directory_of_a_worker_is_empty_at_the_start_and_gone_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "w1" / "i1-1" / "output").mkdir(parents=True)
    with own_directory(tmp_path, "w1") as directory:
        assert [path.name for path in directory.iterdir()] == [".lock"]
    assert not directory.exists()


def test_two_workers_of_one_id_cannot_be(tmp_path: Path) -> None:
    with own_directory(tmp_path, "w1"), pytest.raises(ConflictError), own_directory(tmp_path, "w1"):
        pass


def test_only_directories_of_dead_workers_are_removed(tmp_path: Path) -> None:
    (tmp_path / "dead").mkdir()
    (tmp_path / "dead" / ".lock").touch()
    (tmp_path / "dead" / "file").write_text("x")
    (tmp_path / "other").mkdir()
    with own_directory(tmp_path, "alive") as alive:
        assert remove_abandoned(tmp_path) == 1
        assert alive.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_worker_that_starts_is_not_taken_for_a_dead_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one may look for dead ones between any two steps, and remove what has a lock that nobody holds."""
    taken: list[str] = []
    lock = fcntl.flock

    def looked_for_before(descriptor: int, operation: int) -> None:
        for path in tmp_path.glob("*/.lock"):
            with path.open() as file:
                lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                taken.append(path.parent.name)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", looked_for_before)
    with own_directory(tmp_path, "w1") as directory:
        assert [path.name for path in directory.iterdir()] == [".lock"]
        with pytest.raises(BlockingIOError):
            looked_for_before(0, fcntl.LOCK_UN)
    assert taken == []


def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: Path) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    with own_directory(tmp_path, "w1") as directory:
        assert [path.name for path in directory.iterdir()] == [".lock"]
        with pytest.raises(ConflictError), own_directory(tmp_path, "w1"):
            pass


def test_what_user_code_made_unwritable_is_removed(tmp_path: Path) -> None:
    locked = tmp_path / "w" / "locked"
    locked.mkdir(parents=True)
    (locked / "file").write_text("x")
    (tmp_path / "w" / "link").symlink_to(tmp_path)
    locked.chmod(0)
    remove_tree(tmp_path / "w")
    assert list(tmp_path.iterdir()) == []


def test_removing_a_link_leaves_what_it_names(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "link").symlink_to(kept)
    remove_tree(tmp_path / "w")
    assert kept.exists()


def test_used_space_counts_blocks_and_follows_no_links(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "large").write_bytes(b"x" * 500_000)
    (tmp_path / "w" / "link").symlink_to(tmp_path / "large")
    (tmp_path / "w" / "file").write_bytes(b"x" * 100_000)
    assert 100_000 <= used_bytes(tmp_path / "w") < 200_000


def test_the_lock_is_not_handed_to_scripts(tmp_path: Path) -> None:
    with own_directory(tmp_path, "w1") as directory:
        for descriptor in os.listdir("/proc/self/fd"):
            path = Path(f"/proc/self/fd/{descriptor}")
            if path.exists() and path.resolve() == directory / ".lock":
                assert fcntl.fcntl(int(descriptor), fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_a_fresh_file_is_never_what_user_code_left_in_its_place(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("untouched")
    workspace = tmp_path / "i1-1"
    workspace.mkdir()
    (workspace / "result").symlink_to(secret)
    fresh(workspace / "result").write_text("answer")
    assert (secret.read_text(), (workspace / "result").is_symlink()) == ("untouched", False)


def test_a_fresh_file_is_not_made_where_a_link_replaced_the_workspace(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "i1-1").symlink_to(elsewhere)
    with pytest.raises(OSError, match=r"i1-1"):
        fresh(tmp_path / "i1-1" / "result")
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("planted", ["i1-1/output/key", "i1-1/output", "i1-1"])
async def test_no_link_leads_outputs_out_of_the_workspace(tmp_path: Path, planted: str) -> None:
    secrets = tmp_path / "secrets"
    (secrets / "output").mkdir(parents=True)
    for folder in (secrets, secrets / "output"):
        (folder / "key").write_text("hunter2")
    at = place(tmp_path)
    if planted != "i1-1":
        furnish(at, script="", event=b"")
        if planted == "i1-1/output":
            at.output.rmdir()
    (tmp_path / planted).symlink_to(secrets / "key" if planted.endswith("key") else secrets)
    said: list[str] = []
    assert await find_outputs(everything(at), [StorageIO(path="data/out")], said.append) == []
    assert "not a file of this workspace" in said[0]
