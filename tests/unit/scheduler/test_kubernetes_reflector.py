"""Following one kind of object over an API server that ends watches, forgets, and goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from tidemill_common.errors import UnavailableError
from tidemill_scheduler.launchers.kubernetes import reflector as module
from tidemill_scheduler.launchers.kubernetes.api import GoneError, Object
from tidemill_scheduler.launchers.kubernetes.reflector import Change, Reflector, Selection


class ScriptedApi:
    """Answers lists and watches in order, and notes what was asked; at the end a watch stays silent."""

    def __init__(self, lists: Sequence[Object | Exception], watches: Sequence[list[Object] | Exception]) -> None:
        self.lists, self.watches = list(lists), list(watches)
        self.asked: list[dict[str, str]] = []
        self.idle = asyncio.Event()

    async def get(self, path: str, **query: str) -> Object:
        self.asked.append(query)
        answer = self.lists.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def watch(self, path: str, *, silence: timedelta, **query: str) -> AsyncIterator[Object]:
        self.asked.append(query)
        if not self.watches:
            self.idle.set()
            await asyncio.Event().wait()
        answer = self.watches.pop(0)
        if isinstance(answer, Exception):
            raise answer
        for event in answer:
            yield event

    async def create(self, path: str, body: Object) -> Object:
        raise NotImplementedError

    async def replace(self, path: str, body: Object) -> Object:
        raise NotImplementedError

    async def delete(self, path: str, **options: object) -> None:
        raise NotImplementedError


def item(name: str, version: int = 1) -> Object:
    return {"metadata": {"name": name, "namespace": "x", "resourceVersion": str(version)}}


def page(*items: Object, version: int, following: str = "") -> Object:
    return {"metadata": {"resourceVersion": str(version), "continue": following}, "items": list(items)}


def event(kind: str, name: str, version: int) -> Object:
    return {"type": kind, "object": item(name, version)}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.0)


async def told(api: ScriptedApi, path: str = "/x") -> list[tuple[str, str]]:
    changes: list[Change] = []
    task = asyncio.create_task(Reflector(api, Selection(path=path, labels="a=b"), changes.append).run())
    await asyncio.wait_for(api.idle.wait(), 30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return [(change.type.value, change.object["metadata"]["name"]) for change in changes]


async def test_all_pages_are_told_and_the_watch_begins_where_they_end() -> None:
    api = ScriptedApi([page(item("a"), version=5, following="more"), page(item("b"), version=7)], [])
    assert await told(api) == [("ADDED", "a"), ("ADDED", "b")]
    assert api.asked[1]["continue"] == "more"
    assert api.asked[2]["resourceVersion"] == "7"
    assert all(query["labelSelector"] == "a=b" for query in api.asked)


async def test_a_watch_that_ends_goes_on_at_the_newest_version_with_bookmarks() -> None:
    watches = [[event("MODIFIED", "a", 8), event("BOOKMARK", "", 20)], [event("DELETED", "a", 21)]]
    api = ScriptedApi([page(item("a"), version=7)], watches)
    assert await told(api) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    assert [query["resourceVersion"] for query in api.asked[1:]] == ["7", "20", "21"]


@pytest.mark.parametrize("forgot", [GoneError("too old"), [event("ADDED", "b", 8)]])
async def test_what_a_new_list_lacks_was_deleted(forgot: Any) -> None:
    watches = [forgot] if isinstance(forgot, Exception) else [forgot, GoneError("too old")]
    api = ScriptedApi([page(item("a"), item("b"), version=7), page(item("b"), version=90)], watches)
    assert ("DELETED", "a") in await told(api)


async def test_a_server_that_is_away_is_asked_again_without_a_new_list() -> None:
    api = ScriptedApi(
        [UnavailableError("away"), page(item("a"), version=7)],
        [UnavailableError("away"), UnavailableError("away"), [event("MODIFIED", "a", 8)]],
    )
    assert await told(api) == [("ADDED", "a"), ("MODIFIED", "a")]
    assert [query.get("resourceVersion") for query in api.asked] == [None, None, "7", "7", "7", "8"]


async def test_after_a_watch_that_ended_in_order_the_next_one_does_not_wait_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)
    api = ScriptedApi([page(version=7)], [UnavailableError("away"), UnavailableError("away"), []])
    reflector = Reflector(api, Selection(path="/x"), lambda _: None)
    task = asyncio.create_task(reflector.run())
    await asyncio.wait_for(api.idle.wait(), 30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert reflector._pause == pytest.approx(0.002)
