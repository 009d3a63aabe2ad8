"""Which `Scripts` a Worker has, by its settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tidemill_supervisor.container import ContainerScripts, Why
from tidemill_supervisor.guardian import Guardian
from tidemill_supervisor.ports import Scripts
from tidemill_supervisor.processes import ProcessScripts
from tidemill_supervisor.settings import Runner, Settings


@contextmanager
def open_scripts(settings: Settings, directory: Path, mark: str, why: Why) -> Iterator[Scripts]:
    """Scripts that run where `settings.runner` says; what runs there ends at the end.

    Args:
        why: Says why the user's container ended.
    """
    match settings.runner:
        case Runner.PROCESS:
            with closing(Guardian(mark)) as guardian:
                yield ProcessScripts(guardian)
        case Runner.CONTAINER:
            os.umask(0)  # user code may run as any user, and has to read and remove what we write
            with closing(ContainerScripts(directory, why, timeout=settings.runner_timeout)) as scripts:
                yield scripts
