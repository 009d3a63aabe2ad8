"""`apply` waits for the images of its Services where the platform brings them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from tidemill import images
from tidemill.client import GatewayClient
from tidemill.images import wait_for_images


class Gateway:
    """Answers with one view of the cluster after the other; the last one stays."""

    def __init__(self, *views: Sequence[tuple[str, str]] | None) -> None:
        self.views = list(views)
        self.asked = 0

    async def get(self, path: str) -> dict[str, Any]:
        assert path == "/v1/cluster"
        found = self.views[min(self.asked, len(self.views) - 1)]
        self.asked += 1
        if found is None:
            return {"scheduler": {"services": {}}}
        rows = [
            {"image": image, "state": state, "done_bytes": 1, "total_bytes": 2, "message": f"{state} {image}"}
            for image, state in found
        ]
        return {"scheduler": {"images": rows}}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_PAUSE", 0)


async def waited(gateway: Gateway, *names: str) -> dict[str, str]:
    return await wait_for_images(cast(GatewayClient, gateway), names)


async def test_it_waits_until_a_new_image_was_noticed_and_pulled() -> None:
    gateway = Gateway([], [("a:1", "pulling")], [("a:1", "pulling")], [("a:1", "present")])

    assert await waited(gateway, "a:1") == {}
    assert gateway.asked == 4


async def test_what_cannot_be_had_is_told_with_the_reason() -> None:
    gateway = Gateway([("a:1", "failed"), ("b:1", "pulling")], [("a:1", "failed"), ("b:1", "present")])

    assert await waited(gateway, "a:1", "b:1") == {"a:1": "failed a:1"}


async def test_images_of_others_are_not_waited_for() -> None:
    gateway = Gateway([("a:1", "present"), ("other:1", "pulling")])

    assert await waited(gateway, "a:1", "a:1") == {}


async def test_where_the_launcher_brings_no_images_there_is_nothing_to_wait_for() -> None:
    gateway = Gateway(None)

    assert await waited(gateway, "a:1") == {}
    assert gateway.asked == 1


async def test_an_image_that_nobody_notices_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_NOTICED", 0)

    assert await waited(Gateway([]), "a:1") == {}
