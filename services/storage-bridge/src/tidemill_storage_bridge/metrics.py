"""What Prometheus reads. Labels are closed sets: sources and outcomes, never keys or ids."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

EVENTS_RECEIVED: Final = Counter(
    "tidemill_bridge_events_received_total", "Events that the bus acknowledged, new or known", ["source"]
)
EVENTS_DUPLICATE: Final = Counter(
    "tidemill_bridge_events_duplicate_total", "Events that EVENTS had already, recognised by their id", ["source"]
)
EVENTS_INVALID: Final = Counter(
    "tidemill_bridge_events_invalid_total",
    "Notifications that break their format, or Events that cannot be stored",
    ["source"],
)
ROUTED: Final = Counter("tidemill_bridge_events_routed_total", "Events for which at least one Invocation was queued")
UNMATCHED: Final = Counter("tidemill_bridge_events_unmatched_total", "Events that no Service reacts to")
REFUSED: Final = Counter("tidemill_bridge_events_refused_total", "Direct calls of Services that are not there")
REDELIVERED: Final = Counter("tidemill_bridge_events_redelivered_total", "Events given back, to be routed later")
INVOCATIONS: Final = Counter("tidemill_bridge_invocations_total", "Invocations that were queued")
RETRIES: Final = Counter("tidemill_bridge_retries_total", "Attempts that Workers asked for and that were queued")
RETRIES_REFUSED: Final = Counter(
    "tidemill_bridge_retries_refused_total", "Asks for an Attempt that were set aside: a Worker says what it must not"
)
RECONCILED: Final = Counter(
    "tidemill_bridge_reconciled_objects_total", "Objects that a listing found and EVENTS missed"
)
CURSOR_LAG: Final = Gauge(
    "tidemill_bridge_cursor_lag_seconds",
    "Age of the oldest change read and not yet acknowledged; 0: none waits",
    ["source"],
)
