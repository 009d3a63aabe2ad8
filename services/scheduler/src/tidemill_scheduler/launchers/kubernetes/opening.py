"""Opens the launcher of a cluster from the scheduler's settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from tidemill_common.bus import Live
from tidemill_common.bus.addresses import drain_subject
from tidemill_common.errors import InvalidInputError, UnavailableError
from tidemill_scheduler.domain.snapshot import Pool
from tidemill_scheduler.identities import identities_of
from tidemill_scheduler.launchers.environment import CREDENTIALS_FILE, worker_environment
from tidemill_scheduler.launchers.kubernetes.api import open_api
from tidemill_scheduler.launchers.kubernetes.bus_secrets import (
    PASSWORD_FILE,
    Credentials,
    IssuedCredentials,
    SharedCredentials,
)
from tidemill_scheduler.launchers.kubernetes.launcher import Drain, KubernetesLauncher
from tidemill_scheduler.launchers.kubernetes.nodes import POOL
from tidemill_scheduler.launchers.kubernetes.settings import CLOSING
from tidemill_scheduler.ports import WorkerSpec
from tidemill_scheduler.settings import PoolSettings, Settings

_PREFIX: Final = "TIDEMILL_SUPERVISOR_"
_OWN: Final = frozenset({PASSWORD_FILE, CREDENTIALS_FILE, f"{_PREFIX}SECRETS_DIR"})
"""Paths of the scheduler's machine."""


def open_kubernetes_launcher(settings: Settings, live: Live) -> KubernetesLauncher:
    """The launcher of the cluster that the settings name; it connects when it is first asked to adopt."""
    cluster = settings.kubernetes
    fixed = _fixed_pool(settings.pool)
    if fixed is None and not cluster.nodes.watch:
        raise InvalidInputError("kubernetes.nodes.watch is off: pool.cpu_millicores and pool.memory_bytes must be set")
    return KubernetesLauncher(
        cluster,
        api=open_api(cluster.kubeconfig, cluster.context),
        environment=supervisor_environment(settings),
        credentials=credentials_of(settings),
        drain=drain_over(live),
        fixed=fixed,
        max_starting=settings.pool.max_starting,
    )


def supervisor_environment(settings: Settings) -> Mapping[str, str]:
    """Settings of supervisors in pods, without secrets and without paths of this machine."""
    cluster = settings.kubernetes
    found = {name: value for name, value in worker_environment(settings).items() if name not in _OWN}
    if cluster.bus_url is not None:
        found[f"{_PREFIX}BUS__URL"] = cluster.bus_url
    # A pod's SIGTERM comes from others than the scheduler, and SIGKILL follows; the scheduler's drain has no such end.
    found[f"{_PREFIX}DRAIN_TIMEOUT"] = f"PT{(cluster.termination_grace - CLOSING).total_seconds():.0f}S"
    return found | settings.worker.environment


def credentials_of(settings: Settings) -> Credentials | None:
    """What Workers know themselves by; None: the bus asks for nothing.

    Raises:
        UnavailableError: A file that the settings name cannot be read.
    """
    bus, worker = settings.bus, settings.worker
    if (identities := identities_of(settings)) is not None:
        return IssuedCredentials(identities)
    try:
        if worker.bus_user is not None:
            return None if worker.bus_password_file is None else SharedCredentials(worker.bus_password_file.read_text())
        if bus.credentials_file is not None:
            return SharedCredentials(bus.credentials_file.read_text(), variable=CREDENTIALS_FILE)
        if bus.password_file is not None:
            return SharedCredentials(bus.password_file.read_text())
    except OSError as error:
        raise UnavailableError(f"Workers' identity on the bus: {error}") from error
    return None if bus.password is None else SharedCredentials(bus.password.get_secret_value())


def drain_over(live: Live) -> Drain:
    """Asks Workers over the bus."""

    async def drain(worker: WorkerSpec) -> None:
        await live.publish(drain_subject(worker.service, worker.id), json.dumps({}).encode())

    return drain


def _fixed_pool(pool: PoolSettings) -> Pool | None:
    if pool.cpu_millicores is None or pool.memory_bytes is None:
        return None
    return Pool(
        name=POOL,
        cpu_millicores=pool.cpu_millicores,
        memory_bytes=pool.memory_bytes,
        max_starting=pool.max_starting,
    )
