"""Opens the exposer that belongs to the launcher of the settings."""

from __future__ import annotations

from typing import Final

from tidemill_common.secrets import FileSecretStore
from tidemill_scheduler.exposing.instances import Places
from tidemill_scheduler.exposing.ports import Exposer, OnChange
from tidemill_scheduler.exposing.process import ProcessExposer
from tidemill_scheduler.settings import Settings

_ENFORCE_MEMORY: Final = "TIDEMILL_SUPERVISOR_ENFORCE_MEMORY"


def exposer_of(settings: Settings, on_change: OnChange) -> Exposer:
    """The exposer; the caller closes it."""
    if settings.launcher == "kubernetes":
        # Its client takes 60 MB and a second to load.
        from tidemill_scheduler.exposing.kubernetes.exposer import KubernetesExposer
        from tidemill_scheduler.launchers.kubernetes.api import open_api

        cluster = settings.kubernetes
        api = open_api(cluster.kubeconfig, cluster.context)
        return KubernetesExposer(api, cluster, settings.exposed, on_change=on_change)
    if settings.launcher == "docker":
        return _docker_exposer(settings, on_change)
    return ProcessExposer(places_of(settings), grace=_grace(settings), on_change=on_change)


def _docker_exposer(settings: Settings, on_change: OnChange) -> Exposer:
    from tidemill_scheduler.exposing.docker.containers import Site
    from tidemill_scheduler.exposing.docker.exposer import DockerExposer
    from tidemill_scheduler.exposing.docker.keeper import Tools
    from tidemill_scheduler.launchers.docker.engine import open_engine
    from tidemill_scheduler.launchers.docker.images import Images
    from tidemill_scheduler.launchers.docker.opening import installation_id
    from tidemill_scheduler.launchers.docker.registries import config_file

    docker, state_dir = settings.docker, settings.state_dir.absolute()
    engine = open_engine(docker.host, timeout=docker.timeout)
    return DockerExposer(
        Tools(
            engine=engine,
            images=Images(engine, docker.pull, docker.config_file or config_file()),
            secrets=FileSecretStore(settings.secrets_dir.absolute()),
            site=Site(scripts=state_dir / "exposed-scripts", installation=installation_id(state_dir), settings=docker),
            grace=_grace(settings),
            on_change=on_change,
        )
    )


def places_of(settings: Settings) -> Places:
    """Beside those of the Workers."""
    enforced = settings.worker.environment.get(_ENFORCE_MEMORY, "").lower()
    return Places(
        records=settings.state_dir.absolute() / "exposed",
        workspaces=settings.workspace_root.absolute(),
        logs=settings.log_dir.absolute() / "exposed",
        secrets=settings.secrets_dir.absolute(),
        enforce_memory=enforced in ("1", "true", "yes", "on"),
    )


def _grace(settings: Settings) -> float:
    """Half of the time that the scheduler has when everything stops, at most 10 s."""
    return min(10.0, settings.drain_timeout.total_seconds() / 2)
