"""Images are pulled once, when the policy says so, and tell how far they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from pathlib import Path

import pytest

from tidemill_common.errors import UnavailableError
from tidemill_scheduler.launchers.docker.engine import ImageError, PullProgress
from tidemill_scheduler.launchers.docker.images import Images, ImageState


class Host:
    """A Docker host that pulls when it is told to go on."""

    def __init__(self, *present: str) -> None:
        self.present = set(present)
        self.pulls: list[str] = []
        self.go_on = asyncio.Event()
        self.error: Exception | None = None

    async def has_image(self, image: str) -> bool:
        return image in self.present

    async def pull(self, image: str, *, auth: Mapping[str, str] | None) -> AsyncGenerator[PullProgress, None]:
        self.pulls.append(image)
        yield PullProgress(1, 4)
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        yield PullProgress(4, 4)
        self.present.add(image.removeprefix("docker.io/library/"))


@pytest.fixture
async def host() -> Host:
    return Host("there:1")


@pytest.fixture
async def images(host: Host) -> AsyncIterator[Images]:
    images = Images(host, config_file=Path("/none"))
    yield images
    await images.close()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_an_image_that_is_there_is_not_pulled(host: Host, images: Images) -> None:
    await images.ensure("there:1")

    assert host.pulls == []
    assert [view.state for view in images.views()] == [ImageState.PRESENT]


async def test_all_who_want_an_image_wait_for_one_pull(host: Host, images: Images) -> None:
    waiting = [asyncio.create_task(images.ensure("new:1")) for _ in range(3)]
    await settle()

    (view,) = images.views()
    assert (view.state, view.done_bytes, view.total_bytes) == (ImageState.PULLING, 1, 4)
    assert str(images.trouble("new:1")) == "Pulling: new:1: 1 of 4 bytes"
    host.go_on.set()
    await asyncio.gather(*waiting)

    assert host.pulls == ["docker.io/library/new:1"]
    assert images.trouble("new:1") is None
    assert [view.state for view in images.views()] == [ImageState.PRESENT]


async def test_who_gives_up_waiting_does_not_end_the_pull_of_others(host: Host, images: Images) -> None:
    first, second = (asyncio.create_task(images.ensure("new:1")) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    host.go_on.set()

    await second
    assert first.cancelled()


@pytest.mark.parametrize(
    ("error", "kind"), [(ImageError("denied"), ImageError), (UnavailableError("away"), UnavailableError)]
)
async def test_a_failed_pull_says_why_and_is_tried_again_by_the_next(
    host: Host, images: Images, error: Exception, kind: type[Exception]
) -> None:
    host.error = error
    host.go_on.set()
    with pytest.raises(kind, match=str(error)):
        await images.ensure("new:1")
    assert [(view.state, view.message) for view in images.views()] == [(ImageState.FAILED, str(error))]

    host.error = None
    await images.ensure("new:1")

    assert [view.state for view in images.views()] == [ImageState.PRESENT]


async def test_always_pulls_and_makes_do_with_what_is_there(host: Host) -> None:
    images = Images(host, "always", Path("/none"))
    host.go_on.set()
    await images.ensure("there:1")
    assert len(host.pulls) == 1

    host.error = ImageError("registry is away")
    await images.ensure("there:1")

    assert len(host.pulls) == 2
    with pytest.raises(ImageError, match="registry is away"):
        await images.ensure("new:1")
    await images.close()


async def test_never_pulls_even_what_is_missing(host: Host) -> None:
    images = Images(host, "never", Path("/none"))

    with pytest.raises(ImageError, match="never pulled"):
        await images.ensure("new:1")

    assert host.pulls == []


@pytest.mark.parametrize("name", ["", "../info", "a/../../containers/json", "a?b", "a b", "-x", "x\n"])
async def test_a_name_that_could_lead_elsewhere_is_refused(host: Host, images: Images, name: str) -> None:
    with pytest.raises(ImageError, match="cannot be the name"):
        await images.ensure(name)


async def test_wanted_images_are_fetched_ahead_and_forgotten_with_their_service(host: Host, images: Images) -> None:
    host.go_on.set()
    images.want({"new:1", "there:1"})
    await settle()
    assert [(view.image, view.state) for view in images.views()] == [
        ("new:1", ImageState.PRESENT),
        ("there:1", ImageState.PRESENT),
    ]

    images.want({"there:1"})

    assert [view.image for view in images.views()] == ["there:1"]


async def test_an_image_that_cannot_be_fetched_ahead_is_shown_with_the_reason(host: Host, images: Images) -> None:
    host.error = ImageError("no such image")
    host.go_on.set()
    images.want({"new:1"})
    await settle()

    assert [(view.state, view.message) for view in images.views()] == [(ImageState.FAILED, "no such image")]
