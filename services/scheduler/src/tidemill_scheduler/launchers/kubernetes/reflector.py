"""Follows one kind of object: list once, then watch from there; never asks twice for what it knows.

A watch that ends goes on at the last resourceVersion (bookmarks keep it fresh). When the server has forgotten it
(410 Gone) everything is listed again, and what is missing from the list was deleted meanwhile.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, NamedTuple

import structlog

from tidemill_common.errors import TidemillError
from tidemill_scheduler.launchers.kubernetes.api import Api, GoneError, Object

log = structlog.get_logger()
_PAGE: Final = "500"
_WATCH: Final = timedelta(minutes=4)
"""The server ends a watch after this; another goes on where it ended."""
_SILENCE: Final = timedelta(seconds=90)
"""Bookmarks come about every minute, where the server has any to give (of events it has none): a connection as silent
as this may be dead, and another is made."""
_FIRST_PAUSE: Final = 0.2
_LAST_PAUSE: Final = 15.0
"""Seconds before the next watch; longer from try to try while the API server is away."""


class ChangeType(StrEnum):
    """What a watch event says."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"


class Change(NamedTuple):
    """One object as it is now, or as it was last."""

    type: ChangeType
    object: Object


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which objects."""

    path: str
    labels: str = ""
    fields: str = ""

    def query(self) -> dict[str, str]:
        """As the API wants it."""
        found = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {name: value for name, value in found.items() if value}


class Reflector:
    """Tells each change of a selection, in order.

    Args:
        on_change: Called for each object of a list (ADDED), and each change after it.
    """

    def __init__(self, api: Api, selection: Selection, on_change: Callable[[Change], None]) -> None:
        self._api = api
        self._selection = selection
        self._on_change = on_change
        self._known: dict[tuple[str, str], Object] = {}
        """What was told and not deleted, names only: what a new list lacks is deleted."""
        self._version = ""
        self._listed = asyncio.Event()
        self._pause = _FIRST_PAUSE

    async def listed(self) -> None:
        """Return when everything that was there at the start has been told."""
        await self._listed.wait()

    async def run(self) -> None:
        """Follow, for ever. An API server that is away is tried again, with growing pauses."""
        while True:
            try:
                await self._follow()
                self._pause = _FIRST_PAUSE
            except GoneError:
                self._version = ""
            except TidemillError as error:
                log.warning("watch broke off", path=self._selection.path, error=str(error))
            await asyncio.sleep(self._pause * (0.5 + random.random()))  # jitter needs no strength
            self._pause = min(_LAST_PAUSE, self._pause * 2)

    async def _follow(self) -> None:
        if not self._version:
            await self._list()
        query = {
            **self._selection.query(),
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(_WATCH.total_seconds())),
        }
        async for event in self._api.watch(self._selection.path, silence=_SILENCE, **query):
            self._pause = _FIRST_PAUSE
            self._version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] in ChangeType.__members__:
                self._tell(Change(ChangeType(event["type"]), event["object"]))

    async def _list(self) -> None:
        """All there is; told only when the list is whole."""
        found: list[Object] = []
        query = {**self._selection.query(), "limit": _PAGE}
        while True:
            page = await self._api.get(self._selection.path, **query)
            found += page.get("items", [])
            if not (following := page["metadata"].get("continue")):
                break
            query["continue"] = following
        self._replace(found)
        self._version = page["metadata"]["resourceVersion"]
        self._listed.set()

    def _replace(self, found: list[Object]) -> None:
        now = {_key(item) for item in found}
        for key in [key for key in self._known if key not in now]:
            self._tell(Change(ChangeType.DELETED, self._known[key]))
        for item in found:
            self._tell(Change(ChangeType.ADDED, item))

    def _tell(self, change: Change) -> None:
        key = _key(change.object)
        if change.type is ChangeType.DELETED:
            self._known.pop(key, None)
        else:
            self._known[key] = {"metadata": _remembered(change.object["metadata"])}
        self._on_change(change)


def _key(item: Object) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _remembered(metadata: Object) -> Object:
    """Enough to say later what was deleted."""
    return {name: metadata[name] for name in ("name", "namespace", "uid", "labels") if name in metadata}
