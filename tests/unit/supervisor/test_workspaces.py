"""A workspace is used again only when nothing of the Invocation before is in it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tidemill_supervisor import workspaces
from tidemill_supervisor.domain.environment import Place
from tidemill_supervisor.workspaces import Workspaces, make


@dataclass
class Wiping:
    """Scripts that only wipe, and remember what."""

    wiped: list[Path] = field(default_factory=list)

    async def wipe(self, directory: Path) -> None:
        """See the port."""
        self.wiped.append(directory)


@pytest.fixture
def scripts() -> Wiping:
    return Wiping()


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The workspaces that were looked into; the clock is ahead, so that all changes are old."""
    looked: list[str] = []
    look = workspaces._is_emptied

    def recorded(root: str) -> bool:
        looked.append(root)
        return look(root)

    monkeypatch.setattr(workspaces, "_is_emptied", recorded)
    ahead = SimpleNamespace(time_ns=lambda: time.time_ns() + 10**9)
    monkeypatch.setattr(workspaces, "time", ahead)
    return looked


def place(root: Path) -> Place:
    """A place there."""
    return Place(root=root, attempt=1, worker="w", mark="m", node="n")


async def used(kept: Workspaces) -> Place:
    """A workspace that was taken, made and given back."""
    taken = place(kept.take())
    make(taken)
    await kept.give(taken)
    return taken


def tick(directory: Path, since: Path) -> None:
    """Return when the file system's clock has gone on since `since` was changed."""
    probe = directory / "probe"
    while not probe.exists() or probe.stat().st_ctime_ns <= since.stat().st_ctime_ns:
        probe.unlink(missing_ok=True)
        probe.touch()


async def test_one_that_was_not_touched_is_not_looked_into_again(
    tmp_path: Path, scripts: Any, found: list[str]
) -> None:
    kept = Workspaces(scripts, tmp_path)
    assert [(await used(kept)).root for _ in range(3)] == [tmp_path / "workspace-0"] * 3
    assert found == [str(tmp_path / "workspace-0")]


@pytest.mark.parametrize("name", ["left", "input/left", "output/left", "tmp/left"])
async def test_what_was_left_in_one_that_was_empty_for_long_is_removed(
    tmp_path: Path, scripts: Any, found: list[str], name: str
) -> None:
    kept = Workspaces(scripts, tmp_path)
    taken = await used(kept)
    tick(tmp_path, taken.root / "tmp")
    assert kept.take() == taken.root
    (taken.root / name).touch()
    await kept.give(taken)
    assert not (taken.root / name).exists()
    assert len(found) == 2
    assert kept.take() == taken.root


async def test_one_with_a_missing_directory_is_wiped(tmp_path: Path, scripts: Wiping, found: list[str]) -> None:
    kept = Workspaces(scripts, tmp_path)  # type: ignore[arg-type]  # it wipes, and needs no more
    taken = await used(kept)
    kept.take()
    taken.tmp.rmdir()
    await kept.give(taken)
    assert scripts.wiped == [taken.root]
    assert kept.take() != taken.root


async def test_a_change_of_just_now_is_no_proof(
    tmp_path: Path, scripts: Any, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "workspace-0"
    just_after = SimpleNamespace(time_ns=lambda: root.stat().st_ctime_ns + 1_000_000)
    monkeypatch.setattr(workspaces, "time", just_after)
    kept = Workspaces(scripts, tmp_path)
    assert (await used(kept)).root == root
    assert kept._unchanged == {}
