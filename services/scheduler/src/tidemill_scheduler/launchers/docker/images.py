"""Images on a Docker host: pulled once however many want them, with their progress to be seen."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from tidemill_common.errors import PermanentError, TidemillError, TransientError
from tidemill_scheduler.launchers.docker.engine import ImageError, PullProgress
from tidemill_scheduler.launchers.docker.registries import config_file, credentials_for, full_name, read_config
from tidemill_scheduler.launchers.docker.settings import PullPolicy
from tidemill_scheduler.ports import Cause

log = structlog.get_logger()
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]*")
"""More than Docker allows, and nothing that could change the address of a request."""
_AT_A_TIME: Final = 3
"""Pulls for Services that have no work yet; what Workers wait for is not held back."""


class ImageHost(Protocol):
    """Where images are."""

    async def has_image(self, image: str) -> bool:
        """Whether it is there."""
        ...

    def pull(self, image: str, *, auth: Mapping[str, str] | None) -> AsyncGenerator[PullProgress, None]:
        """Pull it."""
        ...


class ImageState(StrEnum):
    """Of an image that a Service needs."""

    PRESENT = "present"
    PULLING = "pulling"
    FAILED = "failed"


@dataclass(slots=True)
class ImageView:
    """One image, for people."""

    image: str
    state: ImageState
    done_bytes: int = 0
    total_bytes: int = 0
    message: str = ""

    def as_json(self) -> dict[str, Any]:
        """For the status register."""
        return {
            "image": self.image,
            "state": self.state.value,
            "done_bytes": self.done_bytes,
            "total_bytes": self.total_bytes,
            "message": self.message,
        }


@dataclass
class Images:
    """The images of one Docker host.

    Args:
        host: Where they are.
        policy: When to pull.
        config_file: With registry credentials.
    """

    host: ImageHost
    policy: PullPolicy = "missing"
    config_file: Path = field(default_factory=config_file)
    _pulls: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _prefetches: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _views: dict[str, ImageView] = field(default_factory=dict)
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_A_TIME))

    async def ensure(self, image: str) -> None:
        """Return when the image is there; whoever asks meanwhile waits for the same pull.

        Raises:
            ImageError: It cannot be had, in Docker's words.
            TransientError: Docker does not answer.
        """
        is_there = await self._is_there(image)
        if is_there and self.policy != "always":
            return
        if self.policy == "never":  # and it is not there
            raise ImageError(f"{image} is not there, and images are never pulled here (docker.pull)")
        pull = self._pulls.get(image)
        if pull is None:
            pull = self._pulls[image] = asyncio.create_task(self._pull(image), name=f"pull {image}")
            pull.add_done_callback(partial(self._pulled, image))
        await asyncio.shield(pull)

    def want(self, images: Collection[str]) -> None:
        """These are the images of all Services that should be there before they are needed."""
        for image in self._prefetches.keys() - set(images):
            self._prefetches.pop(image).cancel()
        for image in [image for image in self._views if image not in images and image not in self._pulls]:
            del self._views[image]
        for image in sorted(set(images) - self._prefetches.keys()):
            self._prefetches[image] = asyncio.create_task(self._prefetch(image), name=f"prefetch {image}")

    def trouble(self, image: str) -> Cause | None:
        """Why a Worker waits for its image; None: it does not."""
        view = self._views.get(image)
        if view is None or view.state is not ImageState.PULLING:
            return None
        return Cause("Pulling", f"{image}: {view.done_bytes} of {view.total_bytes} bytes")

    def views(self) -> Sequence[ImageView]:
        """All images that are wanted or were pulled."""
        return sorted(self._views.values(), key=lambda view: view.image)

    async def close(self) -> None:
        """End all pulls; Docker drops what is not whole."""
        tasks = [*self._prefetches.values(), *self._pulls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _pulled(self, image: str, pull: asyncio.Task[None]) -> None:
        self._pulls.pop(image, None)
        if not pull.cancelled():
            pull.exception()  # whoever waits for it is told; nobody may wait any more

    async def _is_there(self, image: str) -> bool:
        if not _NAME.fullmatch(image) or ".." in image:
            raise ImageError(f"{image!r} cannot be the name of an image")
        try:
            if not await self.host.has_image(image):
                return False
        except PermanentError as error:
            raise ImageError(str(error)) from error
        self._views[image] = ImageView(image, ImageState.PRESENT)
        return True

    async def _prefetch(self, image: str) -> None:
        async with self._room:
            try:
                await self.ensure(image)
            except ImageError as error:
                self._views.setdefault(image, ImageView(image, ImageState.FAILED, message=str(error)))
            except TidemillError as error:  # its first Worker tries again
                log.warning("image not fetched", image=image, error=str(error))

    async def _pull(self, image: str) -> None:
        view = self._views[image] = ImageView(image, ImageState.PULLING)
        log.info("image is pulled", image=image)
        try:
            auth = credentials_for(image, read_config(self.config_file))
            async for progress in self.host.pull(full_name(image), auth=auth):
                view.done_bytes, view.total_bytes = progress.done_bytes, progress.total_bytes
        except ImageError as error:
            self._views[image] = ImageView(image, ImageState.FAILED, message=str(error))
            if self.policy == "always" and await self._is_there(image):
                log.warning("image not pulled, the one that is there is used", image=image, error=str(error))
                return
            log.warning("image cannot be pulled", image=image, error=str(error))
            raise
        except TransientError as error:
            self._views[image] = ImageView(image, ImageState.FAILED, message=str(error))
            raise
        self._views[image] = ImageView(image, ImageState.PRESENT, view.total_bytes, view.total_bytes)
