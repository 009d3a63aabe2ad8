"""Planning, case by case."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.scheduler.planned import GIB, NOW, applied, count, needs, pool, settled, snapshot, worker
from tidemill_common.bus import Backlog
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.service import Batch, Service, Synchronous
from tidemill_common.errors import InvalidInputError
from tidemill_scheduler.domain.failures import failed
from tidemill_scheduler.domain.planning import plan
from tidemill_scheduler.domain.snapshot import (
    Blocked,
    Plan,
    Quota,
    Snapshot,
    StartReason,
    StopReason,
    WorkerState,
    needs_of,
)


def started(decided: Plan) -> list[str]:
    return sorted(start.service for start in decided.starts)


def reasons(decided: Plan) -> dict[str, StopReason]:
    return {stop.worker: stop.reason for stop in decided.stops}


@pytest.mark.parametrize(
    ("ready", "slots", "min_scale", "limit", "expected"),
    [
        (0, 1, 0, None, 0),
        (1, 1, 0, None, 1),
        (3, 1, 0, None, 3),
        (3, 2, 0, None, 2),
        (0, 1, 2, None, 2),
        (1, 1, 2, None, 2),
        (9, 1, 0, 2, 2),
        (0, 1, 3, 2, 2),
        (1000, 1, 0, None, 4),
    ],
)
def test_workers_follow_backlog_slots_and_bounds(
    ready: int, slots: int, min_scale: int, limit: int | None, expected: int
) -> None:
    service = needs("thumb", slots=slots, min_scale=min_scale, limit=limit)

    assert started(plan(snapshot([service], {"thumb": ready}))) == ["thumb"] * expected


def test_one_worker_takes_whole_batches() -> None:
    service = replace(needs("thumb", slots=2), batch=8)

    assert started(plan(snapshot([service], {"thumb": 17}))) == ["thumb"] * 2


def test_warm_workers_say_so() -> None:
    decided = plan(snapshot([needs("thumb", min_scale=2)], {"thumb": 1}))

    assert [start.reason for start in decided.starts] == [StartReason.BACKLOG, StartReason.WARM]


def test_an_idle_worker_stays_until_the_timeout() -> None:
    thumb = needs("thumb")
    workers = [worker(thumb, 0, idle=timedelta(seconds=59)), worker(thumb, 1, idle=timedelta(seconds=60))]

    assert reasons(plan(snapshot([thumb], {}, workers))) == {"thumb-1": StopReason.IDLE}


def test_min_scale_stays_warm_however_idle() -> None:
    thumb = needs("thumb", min_scale=1)
    workers = [worker(thumb, n, idle=timedelta(hours=1)) for n in range(2)]

    assert len(plan(snapshot([thumb], {}, workers)).stops) == 1


def test_a_busy_worker_is_not_stopped_when_nobody_waits() -> None:
    thumb = needs("thumb")

    assert plan(snapshot([thumb], {}, [worker(thumb)])).stops == []


def test_an_idle_worker_leaves_at_once_when_another_service_needs_its_room() -> None:
    old, new = needs("old"), needs("new")
    workers = [worker(old, n, idle=timedelta(seconds=1)) for n in range(4)]

    decided = plan(snapshot([old, new], {"new": 1}, workers))

    assert list(reasons(decided).values()) == [StopReason.PREEMPTED]
    assert started(decided) == []  # the room is not free yet


def test_a_small_owner_gets_the_next_room_of_a_machine_full_of_busy_workers() -> None:
    big, small = needs("big", "ada"), needs("small", "bob")
    world = snapshot([big, small], {"big": 100_000, "small": 1}, [worker(big, n) for n in range(4)])

    decided = plan(world)

    assert list(reasons(decided).values()) == [StopReason.FAIR_SHARE]
    assert started(plan(applied(world, decided, drained=True))) == ["small"]


def test_room_that_drains_for_a_large_worker_is_not_taken_by_a_small_one() -> None:
    big, large, tiny = needs("big", "ada", priority=1), needs("large", "bob", cpu=2000), needs("tiny", "ada", cpu=500)
    draining = worker(big, 3, state=WorkerState.DRAINING)
    world = snapshot(
        [big, large, tiny],
        {"big": 10, "large": 1, "tiny": 5},
        [worker(big, 0), worker(big, 1), draining],
    )

    assert started(plan(world)) == []


def test_no_more_drain_than_it_takes() -> None:
    big, small = needs("big", "ada"), needs("small", "bob")
    world = snapshot([big, small], {"big": 100, "small": 1}, [worker(big, n) for n in range(4)])

    again = plan(applied(world, plan(world)))

    assert (again.starts, again.stops) == ([], [])


def test_services_take_turns_when_there_are_fewer_places_than_services() -> None:
    a, b = needs("a", "ada"), needs("b", "bob")
    long_ago = [worker(a, age=timedelta(seconds=31))]
    just_now = [worker(a, age=timedelta(seconds=29))]

    over = plan(snapshot([a, b], {"a": 9, "b": 9}, long_ago, pools=[pool(1)]))
    early = plan(snapshot([a, b], {"a": 9, "b": 9}, just_now, pools=[pool(1)]))

    assert (reasons(over), reasons(early)) == ({"a-0": StopReason.FAIR_SHARE}, {})


def test_who_had_its_turn_does_not_come_back_at_once() -> None:
    a, b = needs("a", "ada"), needs("b", "bob")
    draining = [worker(a, age=timedelta(seconds=31), state=WorkerState.DRAINING)]
    served = {ServiceName("a"): NOW}

    world = snapshot([a, b], {"a": 9, "b": 9}, draining, pools=[pool(1)], served=served)

    assert count(settled(world, plan), "b") == 1


def test_twice_the_weight_is_twice_the_share() -> None:
    a, b = needs("a", "ada"), needs("b", "bob")
    decided = plan(snapshot([a, b], {"a": 99, "b": 99}, pools=[pool(9)], weights={"ada": 2.0}))

    assert (decided.outlook[a.service].target, decided.outlook[b.service].target) == (6, 3)


def test_higher_priority_of_the_same_owner_goes_first() -> None:
    low, high = needs("a-low"), needs("b-high", priority=1)

    assert started(plan(snapshot([low, high], {"a-low": 9, "b-high": 3}))) == ["a-low"] + ["b-high"] * 3


def test_priority_means_nothing_to_other_owners() -> None:
    loud, quiet = needs("loud", "ada", priority=100), needs("quiet", "bob")

    assert started(plan(snapshot([loud, quiet], {"loud": 9, "quiet": 9}))) == ["loud"] * 2 + ["quiet"] * 2


def test_an_owner_stays_below_his_quota_and_the_rest_is_for_others() -> None:
    a, b = needs("a", "ada"), needs("b", "bob")
    decided = plan(snapshot([a, b], {"a": 9, "b": 9}, quotas={"ada": Quota(workers=1)}))

    assert started(decided) == ["a", "b", "b", "b"]


def test_a_smaller_quota_drains_what_is_above_it() -> None:
    a = needs("a", "ada")
    world = snapshot([a], {"a": 9}, [worker(a, n) for n in range(3)], quotas={"ada": Quota(workers=1)})

    assert list(reasons(plan(world)).values()) == [StopReason.OVER_LIMIT] * 2


def test_workers_of_an_old_revision_and_of_no_service_drain() -> None:
    old, new = needs("thumb", revision=1), needs("thumb", revision=2)
    gone = needs("gone")

    decided = plan(snapshot([new], {"thumb": 1}, [worker(old), worker(gone)]))

    assert reasons(decided) == {"thumb-0": StopReason.OUTDATED, "gone-0": StopReason.REMOVED}


@pytest.mark.parametrize(
    ("waited", "workers_starting", "expected"),
    [(0, 0, []), (2, 0, ["crash"]), (2, 1, [])],
    ids=["early", "due", "trying"],
)
def test_a_failing_service_tries_with_one_worker_after_its_delay(
    waited: int, workers_starting: int, expected: list[str]
) -> None:
    crash = needs("crash")
    failures = {crash.service: failed(None, reason="exit 70", now=NOW - timedelta(seconds=waited))}
    workers = [worker(crash, n, state=WorkerState.STARTING) for n in range(workers_starting)]

    assert started(plan(snapshot([crash], {"crash": 9}, workers, failures=failures))) == expected


def test_a_failing_service_takes_no_room_from_others() -> None:
    crash, sound = needs("crash", "ada"), needs("sound", "bob")
    failures = {crash.service: failed(None, reason="exit 70", now=NOW)}

    decided = plan(snapshot([crash, sound], {"crash": 9, "sound": 9}, failures=failures))

    assert started(decided) == ["sound"] * 4
    assert decided.outlook[crash.service].blocked is Blocked.BACKOFF


def test_what_no_node_holds_is_blocked_and_holds_up_nobody() -> None:
    huge, thumb = needs("huge", memory=65 * GIB), needs("thumb", "bob")
    decided = plan(snapshot([huge, thumb], {"huge": 1, "thumb": 1}))

    assert (started(decided), decided.outlook[huge.service].blocked) == (["thumb"], Blocked.TOO_LARGE)


def test_only_so_many_start_at_the_same_time() -> None:
    thumb = needs("thumb")
    world = snapshot(
        [thumb], {"thumb": 9}, [worker(thumb, state=WorkerState.STARTING)], pools=[pool(4, max_starting=2)]
    )

    assert started(plan(world)) == ["thumb"]


def test_delayed_retries_start_nothing() -> None:
    thumb = needs("thumb")
    world = Snapshot(
        now=NOW, pools=[pool()], services={thumb.service: thumb}, backlog={thumb.service: Backlog(delayed=5)}
    )

    assert plan(world).starts == []


def test_a_definition_says_how_many_workers_its_totals_hold() -> None:
    service = Service(
        name=ServiceName("thumb"),
        image="",
        script="",
        cpu="500m",
        memory="1Gi",
        total_cpu="2",
        total_memory="3Gi",
        synchronous=Synchronous(min_scale=1, max_scale=10),
        batch=Batch(size=20),
    )

    found = needs_of(service, revision=7)

    assert (found.cpu_millicores, found.memory_bytes, found.limit, found.revision) == (500, GIB, 3, 7)
    assert found.batch == 20


def test_a_quantity_that_cannot_be_read_says_so() -> None:
    with pytest.raises(InvalidInputError, match="a lot"):
        needs_of(Service(name=ServiceName("thumb"), image="", script="", cpu="a lot"), revision=1)


def test_what_workers_take_beside_their_own_is_kept_for_them() -> None:
    """A Worker whose supervisor has no room would be stopped again in the next round."""
    thumb = needs("thumb", cpu=200)
    room = replace(pool(1), beside_cpu_millicores=100)

    first = plan(snapshot([thumb], {"thumb": 9}, pools=[room]))
    again = plan(applied(snapshot([thumb], {"thumb": 9}, pools=[room]), first))

    assert len(first.starts) == 3
    assert (again.starts, again.stops) == ([], [])
