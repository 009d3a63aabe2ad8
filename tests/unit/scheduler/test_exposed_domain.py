"""What an exposed Service should be, what its state is called, and what its probes say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.exposed import DeploymentState, Wish
from tidemill_common.contracts.service import Expose, Service
from tidemill_scheduler.exposing.domain import Exposure, Observation, state_of
from tidemill_scheduler.exposing.health import LOST_SECONDS, STARTUP_SECONDS, Health, pause_before_restart

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def exposure(*, revision: int = 1, wish: Wish | None = None, **expose: Any) -> Exposure:
    """An exposed Service named web."""
    block = Expose(**{"api_port": (8000,), **expose})
    service = Service(name=ServiceName("web"), image="web:1", script="serve", expose=block)
    return Exposure(service=service, expose=block, revision=revision, wish=wish or Wish())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (1, 10, 80)),
        ({"min_scale": 2, "max_scale": 3, "cpu_threshold": 50}, (2, 3, 50)),
        ({"min_scale": 5, "max_scale": 2}, (5, 5, 80)),
        ({"min_scale": 12}, (12, 12, 80)),
    ],
)
def test_scale_has_the_documented_defaults(given: dict[str, Any], expected: tuple[int, int, int]) -> None:
    found = exposure(**given)
    assert (found.min_scale, found.max_scale, found.cpu_threshold) == expected


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({}, "/"),
        ({"health_path": "/ok"}, "/ok"),
        ({"health_path": "ok"}, "/ok"),
        ({"health_path": "/ok", "rewrite_target": True}, "/system/services/web/exposed/ok"),
        ({"health_path": "/ok", "rewrite_target": True, "probe_mode": "legacy"}, "/system/services/web/exposed/ok"),
        ({"health_path": "/ok", "rewrite_target": True, "probe_mode": "direct"}, "/ok"),
    ],
)
def test_the_probed_path_follows_oscars_modes(given: dict[str, Any], path: str) -> None:
    assert exposure(**given).health_path == path


def test_a_restart_and_a_new_definition_make_another_version() -> None:
    versions = {
        exposure().version,
        exposure(revision=2).version,
        exposure(wish=Wish(restarted_at=NOW)).version,
        exposure(wish=Wish(restarted_at=NOW + timedelta(seconds=1))).version,
    }
    assert len(versions) == 4
    assert exposure(wish=Wish(stopped=True)).version == exposure().version


@pytest.mark.parametrize(
    ("seen", "word", "affected"),
    [
        (Observation(), DeploymentState.PENDING, 2),
        (Observation(present=2, active=2), DeploymentState.READY, 0),
        (Observation(present=2, active=1), DeploymentState.DEGRADED, 1),
        (Observation(present=3, active=2), DeploymentState.READY, 1),
        (Observation(present=2, is_broken=True), DeploymentState.FAILED, 2),
        (Observation(present=1, active=1, most=1), DeploymentState.READY, 0),
    ],
)
def test_the_state_is_named_by_what_answers(seen: Observation, word: DeploymentState, affected: int) -> None:
    state = state_of(exposure(min_scale=2), seen, None, now=NOW)
    assert (state.state, state.affected) == (word, affected)


def test_a_stopped_service_is_stopped_when_nothing_of_it_is_left() -> None:
    stopped = exposure(wish=Wish(stopped=True))
    ending = state_of(stopped, Observation(present=1, active=1, urls=("http://127.0.0.1:1",)), None, now=NOW)
    assert (ending.state, ending.urls, ending.affected) == (DeploymentState.PENDING, (), 0)
    assert state_of(stopped, Observation(), None, now=NOW).state is DeploymentState.STOPPED


def test_the_time_of_transition_is_that_of_the_word() -> None:
    first = state_of(exposure(), Observation(), None, now=NOW)
    later = NOW + timedelta(minutes=1)
    assert state_of(exposure(), Observation(reason="slow"), first, now=later).last_transition == NOW
    assert state_of(exposure(), Observation(active=1, present=1), first, now=later).last_transition == later


def test_an_instance_is_ready_with_its_first_answer_and_unready_after_three_failures() -> None:
    health = Health(started_at=0.0)
    assert not health.is_ready
    health = health.after(ok=False, now=1.0).after(ok=True, now=2.0)
    assert health.is_ready
    for second in (3.0, 4.0):
        health = health.after(ok=False, now=second)
        assert health.is_ready
    assert not health.after(ok=False, now=5.0).is_ready
    assert health.after(ok=True, now=5.0).is_ready


def test_an_instance_has_three_minutes_for_its_first_answer() -> None:
    health = Health(started_at=0.0).after(ok=False, now=STARTUP_SECONDS - 1)
    assert not health.trouble(STARTUP_SECONDS - 1)
    assert "180 s" in health.trouble(STARTUP_SECONDS)


def test_an_instance_that_answered_is_replaced_after_two_minutes_of_failures() -> None:
    health = Health(started_at=0.0).after(ok=True, now=1000.0)
    for second in range(1010, 1010 + int(LOST_SECONDS), 10):
        health = health.after(ok=False, now=float(second))
    assert not health.trouble(1010 + LOST_SECONDS - 1)
    assert "120 s" in health.trouble(1010 + LOST_SECONDS)
    assert not health.after(ok=True, now=1200.0).trouble(1300.0)


def test_probes_come_fast_at_first_and_then_every_five_seconds() -> None:
    health = Health(started_at=0.0)
    pauses = []
    for _ in range(20):
        pauses.append(health.pause)
        health = health.after(ok=False, now=1.0)
    assert pauses[0] == 0.1
    assert pauses == sorted(pauses)
    assert pauses[-1] == 5.0
    assert health.after(ok=True, now=2.0).pause == 5.0


def test_pauses_between_restarts_grow_to_a_minute() -> None:
    assert [pause_before_restart(count) for count in (1, 2, 3, 4, 7, 100)] == [1, 2, 4, 8, 60, 60]
