"""The processes of the platform and the environment of each: addresses and paths, never a secret."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx

from tidemill.platform.installation import Installation
from tidemill.platform.keys import WORKERS_FILE, credentials_file
from tidemill.platform.launching import kept
from tidemill.platform.layout import LOOPBACK
from tidemill.platform.overrides import component_overrides
from tidemill.platform.processes import ChildSpec
from tidemill.platform.servers import SeaweedServer

_PASSED_ON: Final = (
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "PYTHONPATH",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
)
_TOKENS_FILE: Final = "events-tokens.json"

_WORKER_ENVIRONMENT: Final = {
    "TIDEMILL_SUPERVISOR_DRAIN_TIMEOUT": "PT2S",
    "TIDEMILL_SUPERVISOR_GRACE": "PT1S",
}
"""Shorter than on a cluster: a person waits for Ctrl-C."""

Probe = Callable[[], Awaitable[bool]]


def answers(url: str) -> Probe:
    """Whether `url` answers 200 now."""

    async def probe() -> bool:
        try:
            async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
                return (await client.get(url)).status_code == 200
        except httpx.HTTPError:
            return False

    return probe


def stores(weed: SeaweedServer) -> Probe:
    """Whether S3 answers and its volumes are known: after a restart it can answer and yet find no object."""
    s3 = answers(weed.ready_url)

    async def probe() -> bool:
        try:
            async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
                topology = (await client.get(weed.topology_url)).json()["Topology"]
        except (httpx.HTTPError, ValueError, KeyError):
            return False
        return bool(topology.get("Max")) and await s3()

    return probe


def base_environment() -> dict[str, str]:
    """What every process gets. The interpreter's directory stands last on PATH, so `python3` is found in any case."""
    path = os.environ.get("PATH", os.defpath)
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {**passed, "PATH": f"{path}{os.pathsep}{Path(sys.executable).parent}", "PYTHONUNBUFFERED": "1"}


def server_specs(installation: Installation) -> list[ChildSpec]:
    """The bus and the object store."""
    nats, weed = installation.nats, installation.weed
    environment = base_environment()
    return [
        ChildSpec(
            name="nats",
            command=nats.command,
            environment=environment,
            ready=answers(nats.ready_url),
            stop_timeout=timedelta(seconds=1.5),
        ),
        ChildSpec(
            name="seaweedfs",
            command=weed.command,
            environment=environment,
            ready=stores(weed),
            stop_timeout=timedelta(seconds=2.5),
        ),
    ]


def component_specs(installation: Installation) -> list[ChildSpec]:
    """The gateway, the storage-bridge and the scheduler."""
    return [
        _component(
            "gateway",
            "tidemill_gateway",
            gateway_environment(installation),
            ready=answers(f"{installation.endpoint}/health"),
            stop=timedelta(seconds=1.5),
        ),
        _component(
            "storage-bridge",
            "tidemill_storage_bridge",
            bridge_environment(installation),
            ready=answers(f"{installation.events_endpoint}/health"),
            stop=timedelta(seconds=1.5),
        ),
        _component(
            "scheduler",
            "tidemill_scheduler",
            scheduler_environment(installation),
            ready=answers(f"http://{LOOPBACK}:{installation.ports.scheduler}/metrics"),
            stop=timedelta(seconds=4),
        ),
    ]


def _component(name: str, module: str, environment: dict[str, str], *, ready: Probe, stop: timedelta) -> ChildSpec:
    return ChildSpec(
        name=name,
        command=lambda: [sys.executable, "-m", module],
        environment={**base_environment(), **environment, **component_overrides(prefix_of(module), os.environ)},
        ready=ready,
        stop_timeout=stop,
    )


def prefix_of(module: str) -> str:
    """The prefix of a component's variables."""
    return f"TIDEMILL_{module.removeprefix('tidemill_').removeprefix('storage_').upper()}"


def _bus(prefix: str, installation: Installation, identity: str) -> dict[str, str]:
    return {
        **{f"{prefix}_BUS__{name.upper()}": value for name, value in installation.bus.items()},
        f"{prefix}_BUS__URL": installation.nats_url,
        f"{prefix}_BUS__CREDENTIALS_FILE": str(installation.layout.identities / credentials_file(identity)),
    }


def gateway_environment(installation: Installation) -> dict[str, str]:
    """`TIDEMILL_GATEWAY_*`."""
    layout = installation.layout
    return {
        "TIDEMILL_GATEWAY_HOST": LOOPBACK,
        "TIDEMILL_GATEWAY_PORT": str(installation.ports.gateway),
        "TIDEMILL_GATEWAY_DATABASE_URL": f"sqlite+aiosqlite:///{layout.state / 'catalogue.db'}",
        "TIDEMILL_GATEWAY_USERNAME": installation.credentials.username,
        "TIDEMILL_GATEWAY_PASSWORD_FILE": str(layout.identities / "admin-password"),
        "TIDEMILL_GATEWAY_SECRETS_DIR": str(layout.secrets),
        "TIDEMILL_GATEWAY_DRAIN_TIMEOUT": "PT1S",
        **_bus("TIDEMILL_GATEWAY", installation, "gateway"),
    }


def bridge_environment(installation: Installation) -> dict[str, str]:
    """`TIDEMILL_BRIDGE_*`."""
    layout = installation.layout
    return {
        "TIDEMILL_BRIDGE_HOST": LOOPBACK,
        "TIDEMILL_BRIDGE_PORT": str(installation.ports.bridge),
        "TIDEMILL_BRIDGE_TOKENS_FILE": str(layout.identities / _TOKENS_FILE),
        "TIDEMILL_BRIDGE_SEAWEEDFS__FILER_GRPC": installation.weed.filer_grpc,
        "TIDEMILL_BRIDGE_SECRETS_DIR": str(layout.secrets),
        "TIDEMILL_BRIDGE_DRAIN_TIMEOUT": "PT1S",
        "TIDEMILL_BRIDGE_RECONCILE_EVERY": "PT15M",
        **_bus("TIDEMILL_BRIDGE", installation, "bridge"),
    }


def scheduler_environment(installation: Installation) -> dict[str, str]:
    """`TIDEMILL_SCHEDULER_*`. The scheduler issues Workers' identities."""
    layout = installation.layout
    return {
        **kept(layout, os.environ).environment(),
        "TIDEMILL_SCHEDULER_STATE_DIR": str(layout.state / "scheduler"),
        "TIDEMILL_SCHEDULER_WORKSPACE_ROOT": str(layout.state / "workspaces"),
        "TIDEMILL_SCHEDULER_LOG_DIR": str(layout.logs),
        "TIDEMILL_SCHEDULER_METRICS_PORT": str(installation.ports.scheduler),
        "TIDEMILL_SCHEDULER_DRAIN_TIMEOUT": "PT3.5S",
        "TIDEMILL_SCHEDULER_WORKER__IDENTITY_KEY_FILE": str(layout.identities / WORKERS_FILE),
        "TIDEMILL_SCHEDULER_WORKER__ENVIRONMENT": json.dumps(
            _WORKER_ENVIRONMENT | component_overrides("TIDEMILL_SUPERVISOR", os.environ)
        ),
        "TIDEMILL_SCHEDULER_SECRETS_DIR": str(layout.secrets),
        "TIDEMILL_SCHEDULER_STOP_WORKERS_ON_EXIT": "true",
        **_bus("TIDEMILL_SCHEDULER", installation, "scheduler"),
    }
