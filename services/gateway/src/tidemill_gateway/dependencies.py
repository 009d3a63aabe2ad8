"""All that routes may use, built once by `app`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncEngine

from tidemill_common.bus import Bus
from tidemill_common.secrets import SecretStore
from tidemill_common.storage import ObjectStore
from tidemill_gateway.access_log import AccessLog
from tidemill_gateway.auth import AdminCredentials
from tidemill_gateway.calls import Calls, Replies
from tidemill_gateway.catalogue import Catalogue
from tidemill_gateway.changes import Changes
from tidemill_gateway.exposed.states import ExposedStates
from tidemill_gateway.exposed.upstreams import Upstreams
from tidemill_gateway.invocations import InvocationQueries
from tidemill_gateway.logs import InvocationLogs
from tidemill_gateway.metrics import Metrics
from tidemill_gateway.ports import PayloadStore
from tidemill_gateway.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """What is open for as long as the gateway runs."""

    settings: Settings
    bus: Bus
    engine: AsyncEngine
    secrets: SecretStore
    store: ObjectStore
    """The platform's own."""
    catalogue: Catalogue
    admin: AdminCredentials
    queries: InvocationQueries
    """For `/v1/invocations` and `/system/logs`."""
    logs: InvocationLogs
    """What user code wrote."""
    payloads: PayloadStore
    calls: Calls
    replies: Replies
    access_log: AccessLog
    """The last calls of `/job` and `/run`, for `GET /system/logs`."""
    metrics: Metrics
    changes: Changes
    exposed_states: ExposedStates
    upstreams: Upstreams = field(default_factory=Upstreams)
    """Connections to exposed Services."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the gateway drains: streams end, so that their clients come back to another replica."""
