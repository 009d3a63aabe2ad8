"""What keeping exposed Services running needs from a platform."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.exposed import LogLine
from tidemill_scheduler.exposing.domain import Exposure, Observation

OnChange = Callable[[], None]
"""Called whenever an observation may have changed."""


class Exposer(Protocol):
    """Runs exposed Services on one platform. Everything may be repeated: it says what should be, not what to do."""

    async def adopt(self) -> None:
        """Find what earlier scheduler processes made; called whenever leadership begins.

        Raises:
            UnavailableError: The platform does not answer.
        """
        ...

    async def ensure(self, exposure: Exposure) -> None:
        """Bring it about that this runs, or that nothing does if it is to be stopped. Does not wait until it answers.

        Raises:
            UnavailableError: The platform does not answer; asked again later.
            InvalidInputError: This platform cannot run such a Service; says why.
        """
        ...

    async def remove(self, service: ServiceName) -> None:
        """Leave nothing of it. One that is not there is success.

        Raises:
            UnavailableError: The platform does not answer; asked again later.
        """
        ...

    def services(self) -> Collection[ServiceName]:
        """Those of which there is something."""
        ...

    def observe(self, service: ServiceName) -> Observation:
        """What runs of it now, from memory."""
        ...

    async def logs(self, service: ServiceName, lines: int) -> Sequence[LogLine]:
        """The newest lines of its instances, oldest first.

        Raises:
            NotFoundError: There is no instance.
            UnavailableError: The platform does not answer.
        """
        ...

    async def release(self) -> None:
        """Leave everything as it runs, and act no more; `adopt` begins anew."""
        ...

    async def close(self) -> None:
        """Release, for good."""
        ...

    async def stop_all(self) -> None:
        """End all instances, because the platform is stopped as a whole."""
        ...
