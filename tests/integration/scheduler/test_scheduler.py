"""The scheduler as a process on a real bus, with stand-ins for the supervisor."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.scheduler.running import Platform, is_alive, platform, terminate, until, url_of
from tests.servers import nats_server
from tidemill_common.contracts.service import Synchronous

pytestmark = pytest.mark.integration


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Platform]:
    with nats_server(tmp_path) as nats:
        async with platform(url_of(nats), tmp_path) as running:
            yield running


async def test_work_starts_workers_and_idleness_ends_them(world: Platform) -> None:
    await world.define("zero")
    world.start(idle_timeout="PT0.5S")

    await world.submit("zero", 3)
    await until(lambda: _logs(world, "zero"), "a worker starts")
    await until(lambda: _is_empty(world, "zero"), "the work is done")
    await until(lambda: not world.workers("zero"), "the workers are gone")

    await until(lambda: not list((world.directory / "workspaces").iterdir()), "no workspace is left")


async def test_min_scale_workers_are_there_before_any_work(world: Platform) -> None:
    await world.define("warm", synchronous=Synchronous(min_scale=2))
    world.start(idle_timeout="PT0.1S")

    await until(lambda: len(world.workers("warm")) == 2, "two workers are warm")
    await world.define("warm", revision=2, removed=True)
    await until(lambda: not world.workers("warm"), "workers of a removed service end")


async def test_the_backlog_of_a_removed_service_is_dropped(world: Platform) -> None:
    await world.define("gone", total_cpu="0.5")
    await world.submit("gone", 5)
    world.start()

    await world.define("gone", revision=2, removed=True)

    await until(lambda: _is_empty(world, "gone"), "its backlog is dropped")


async def test_a_crashing_service_backs_off_and_says_why(world: Platform) -> None:
    await world.define("crash")
    await world.submit("crash", 5)
    world.start(behaviour="crash")

    status = await until(lambda: _degraded(world, "crash"), "it is degraded")

    assert status["degraded"] == "Worker failed with exit code 70: no such library"
    assert "next_try" in status


async def test_a_scheduler_that_was_killed_is_followed_by_one_that_adopts(world: Platform) -> None:
    await world.define("hold")
    first = world.start(behaviour="hold", stop_workers_on_exit="true")
    await world.submit("hold", 2)
    before = await until(lambda: _all(world, "hold", 2), "two workers run")
    holder = await world.leader()

    first.kill()
    first.wait()
    second = world.start(behaviour="hold", stop_workers_on_exit="true")
    await until(lambda: _other_leader(world, holder), "the second leads")
    await until(lambda: _counts(world, "hold", 2), "it sees the workers")
    assert world.workers("hold") == before

    world.release()
    await until(lambda: _is_empty(world, "hold"), "their work is finished")
    assert terminate(second) == 0
    assert not any(is_alive(pid) for pid in before.values())


async def test_a_standby_takes_over_from_a_leader_that_was_killed(world: Platform) -> None:
    await world.define("over")
    first = world.start()
    holder = await until(world.leader, "one leads")
    world.start()
    await until(lambda: _are_ready(world, 2), "the standby is ready")

    first.kill()
    first.wait()
    await world.submit("over")
    await until(lambda: _other_leader(world, holder), "the standby leads")

    await until(lambda: _is_empty(world, "over"), "and serves")


async def test_a_worker_that_dies_leaves_no_process_and_no_files(world: Platform) -> None:
    await world.define("escape")
    scheduler = world.start(behaviour="escape")
    await world.submit("escape")
    worker, pid = next(iter((await until(lambda: world.workers("escape"), "a worker runs")).items()))
    child = await until(lambda: _escaped(world), "its child runs")

    os.kill(pid, signal.SIGKILL)
    await world.define("escape", revision=2, removed=True)  # not before: its Workers drain and may be gone

    await until(lambda: not is_alive(child), "the child that fled into its own session is killed")
    await until(lambda: not (world.directory / "workspaces" / worker).exists(), "its workspace is removed")
    assert terminate(scheduler) == 0


async def test_what_an_ended_worker_left_is_found_by_the_next_scheduler(world: Platform) -> None:
    await world.define("left")
    first = world.start(behaviour="escape")
    await world.submit("left")
    pid = next(iter((await until(lambda: world.workers("left"), "a worker runs")).values()))
    child = await until(lambda: _escaped(world), "its child runs")
    first.kill()
    first.wait()
    os.kill(pid, signal.SIGKILL)
    await world.define("left", revision=2, removed=True)

    world.start()

    await until(lambda: not is_alive(child), "the child is killed")


async def test_a_small_owner_gets_room_while_another_keeps_the_machine_full(world: Platform) -> None:
    await world.define("big", owner="ada")
    await world.define("small", owner="bob")
    world.start(behaviour="hold")
    await world.submit("big", 50)
    await until(lambda: _counts(world, "big", 4), "the machine is full of busy workers")

    await world.submit("small")
    await until(lambda: _draining(world, "big"), "one worker drains")
    assert len(world.workers("big")) == 4  # and nothing is killed
    world.release()

    await until(lambda: _is_empty(world, "small"), "the small owner's work is done")


async def _is_empty(world: Platform, service: str) -> bool:
    return await world.ready(service) == 0


async def _degraded(world: Platform, service: str) -> dict[str, object]:
    status = await world.status(service)
    return status if "degraded" in status else {}


async def _draining(world: Platform, service: str) -> bool:
    return bool((await world.status(service)).get("draining"))


async def _counts(world: Platform, service: str, count: int) -> bool:
    return (await world.status(service)).get("running") == count


def _all(world: Platform, service: str, count: int) -> dict[str, int]:
    found = world.workers(service)
    return found if len(found) == count else {}


async def _other_leader(world: Platform, holder: str) -> bool:
    return await world.leader() not in ("", holder)


def _are_ready(world: Platform, count: int) -> bool:
    return (world.directory / "scheduler.log").read_text().count("scheduler ready") >= count


def _logs(world: Platform, service: str) -> list[Path]:
    """Of all Workers that were ever started."""
    return list((world.directory / "logs" / "workers").glob(f"{service}-*.log"))


def _escaped(world: Platform) -> int:
    try:
        return int((world.directory / "workspaces" / "escaped").read_text())
    except (FileNotFoundError, ValueError):
        return 0
