"""What Prometheus sees of the gateway. Labels are closed sets; only the accounts name Services, and not all of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from enum import StrEnum
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from tidemill_gateway.domain.account import Account

_ROUTES: Final = ("job", "run")
_SERVICES_SHOWN: Final = 500
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300)


class Outcome(StrEnum):
    """How a call was answered."""

    ACCEPTED = "accepted"
    ANSWERED = "answered"
    REFUSED = "refused"
    TOO_LARGE = "too-large"
    FAILED = "failed"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    DISCONNECTED = "disconnected"


class Metrics:
    """All metrics of one gateway, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = _CallsCollector()
        self.registry.register(self._calls)
        self.projected = Counter(
            "tidemill_gateway_projected_records", "Records folded into SQL", ("projection",), registry=self.registry
        )
        self.position = Gauge(
            "tidemill_gateway_projection_position", "Newest folded position", ("projection",), registry=self.registry
        )
        self.skipped = Gauge(
            "tidemill_gateway_projection_skipped_records",
            "Records that retention dropped before they were folded",
            ("projection",),
            registry=self.registry,
        )
        self._accounts = _AccountsCollector()
        self.registry.register(self._accounts)

    def called(self, route: str, outcome: Outcome, seconds: float) -> None:
        """Count one call."""
        self._calls.count[route, outcome] += 1
        self._calls.seconds[route] += seconds
        self._calls.buckets[route][bisect_left(_BUCKETS, seconds)] += 1

    def exposition(self, accounts: Sequence[Account]) -> bytes:
        """The text that Prometheus reads."""
        self._accounts.accounts = accounts
        return generate_latest(self.registry)


class _CallsCollector(Collector):
    """Plain numbers that only the loop touches; the library's counters lock and cost a call of `/job` a twentieth."""

    def __init__(self) -> None:
        self.count = {(route, outcome): 0 for route in _ROUTES for outcome in Outcome}
        self.seconds = dict.fromkeys(_ROUTES, 0.0)
        self.buckets = {route: [0] * (len(_BUCKETS) + 1) for route in _ROUTES}

    def collect(self) -> Iterable[Metric]:
        calls = CounterMetricFamily("tidemill_gateway_calls", "Calls answered", labels=("route", "outcome"))
        seconds = HistogramMetricFamily("tidemill_gateway_call_seconds", "Time to the answer", labels=("route",))
        for (route, outcome), number in self.count.items():
            calls.add_metric((route, outcome), number)
        for route in _ROUTES:
            bounds = [*(str(float(bound)) for bound in _BUCKETS), "+Inf"]
            totals = list(zip(bounds, accumulate(self.buckets[route]), strict=True))
            seconds.add_metric((route,), totals, sum_value=self.seconds[route])
        return (calls, seconds)


class _AccountsCollector(Collector):
    def __init__(self) -> None:
        self.accounts: Sequence[Account] = ()

    def collect(self) -> Iterable[Metric]:
        ended = CounterMetricFamily(
            "tidemill_invocations", "Invocations by what became of them", labels=("service", "state")
        )
        open_now = GaugeMetricFamily("tidemill_open_invocations", "Not ended yet", labels=("service", "phase"))
        balanced = GaugeMetricFamily("tidemill_accounts_balanced", "1: every Service's account balances")
        for account in self.accounts[:_SERVICES_SHOWN]:
            for state in ("requested", "succeeded", "failed", "dead", "cancelled", "pruned"):
                ended.add_metric((account.service, state), getattr(account, state))
            for phase in ("pending", "running"):
                open_now.add_metric((account.service, phase), getattr(account, phase))
        balanced.add_metric((), float(all(account.balanced for account in self.accounts)))
        return (ended, open_now, balanced)
