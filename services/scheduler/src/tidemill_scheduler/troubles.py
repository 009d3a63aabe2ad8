"""Workers that cannot run yet: what to say of their Services, and how many more may be started."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from tidemill_common.contracts.contract import ServiceName
from tidemill_scheduler.domain.failures import Failure, waiting
from tidemill_scheduler.ports import RunningWorker


def troubles(workers: Iterable[RunningWorker]) -> dict[ServiceName, str]:
    """What keeps Workers from running now, in their platform's words; one for each Service."""
    return {running.spec.service: str(running.trouble) for running in workers if running.trouble is not None}


def stuck(workers: Iterable[RunningWorker], *, most: int, now: datetime) -> dict[ServiceName, Failure]:
    """Services of which `most` Workers wait already: they are held back, or Workers would pile up in their platform."""
    waits = Counter(
        running.spec.service
        for running in workers
        if running.is_pending and running.trouble is not None and not running.is_draining
    )
    return {name: waiting(now) for name, count in waits.items() if count >= most}
