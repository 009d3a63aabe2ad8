"""What every work queue promises. Subclassed for each adapter with a fixture `world`."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tests.contract.bus.world import SERVICE, World, asked, invocation, letter, next_of, nothing_comes, settles, soon
from tests.retries import storing_retries
from tidemill_common.bus import Backlog
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.event import Lane
from tidemill_common.contracts.invocation import SET_ASIDE, Reason
from tidemill_common.contracts.poison import POISONED
from tidemill_common.contracts.retry import RETRY_ASKED
from tidemill_common.errors import InvalidInputError, LeaseLostError, ThrottledError

SHORT = timedelta(seconds=2.5)
"""Of a delay: long enough that what is looked at before it has passed is seen, also on a slow machine."""


class WorkQueueContract:
    """Behaviour of `WorkQueue`, `Leases` and `Lease`."""

    async def test_what_was_submitted_is_leased_once(self, world: World) -> None:
        wanted = invocation()
        assert await world.bus.queue.submit(wanted)
        async with world.bus.queue.leases(SERVICE, slots=2) as leases:
            lease = await next_of(leases)
            assert lease.invocation == wanted
            assert (lease.lane, lease.attempt, lease.failures, lease.lost) == (Lane.BATCH, 1, 0, 0)
            await nothing_comes(world, leases)
            await lease.done()
        assert await world.bus.queue.backlog() == {}

    async def test_submitting_twice_queues_once(self, world: World) -> None:
        wanted = invocation()
        assert await world.bus.queue.submit(wanted)
        assert not await world.bus.queue.submit(wanted)
        assert await world.bus.queue.backlog() == {SERVICE: Backlog(batch=1)}

    async def test_the_lane_of_submit_wins_over_the_invocations_own(self, world: World) -> None:
        await world.bus.queue.submit(invocation(), lane=Lane.INTERACTIVE)
        assert await world.bus.queue.backlog() == {SERVICE: Backlog(interactive=1)}

    async def test_a_name_that_is_no_token_is_refused(self, world: World) -> None:
        with pytest.raises(InvalidInputError):
            await world.bus.queue.submit(invocation(ServiceName("a.b")))

    async def test_an_unanswered_lease_goes_to_another(self, world: World) -> None:
        await world.bus.queue.submit(invocation())
        async with world.other() as other, world.bus.queue.leases(SERVICE, slots=1) as holder:
            held = await next_of(holder)
            async with other.queue.leases(SERVICE, slots=1) as leases:
                await nothing_comes(world, leases)
                await world.pass_time(world.lease)
                again = await next_of(leases)
                assert again.invocation == held.invocation
                assert (again.attempt, again.failures, again.lost) == (2, 0, 1)
                await again.done()

    async def test_a_late_done_after_the_next_lease_ends_the_invocation(self, world: World) -> None:
        await world.bus.queue.submit(invocation())
        async with world.other() as other, world.bus.queue.leases(SERVICE, slots=1) as holder:
            late = await next_of(holder)
            await world.pass_time(world.lease)
            async with other.queue.leases(SERVICE, slots=1) as leases:
                again = await next_of(leases)
                await late.done()
                await again.done()
                assert await world.bus.queue.backlog() == {}
                await nothing_comes(world, leases)

    async def test_a_late_retry_is_refused_for_another_has_it(self, world: World) -> None:
        await world.bus.queue.submit(invocation())
        async with world.bus.queue.leases(SERVICE, slots=1) as leases:
            late = await next_of(leases)
            await world.pass_time(world.lease)
            with pytest.raises(LeaseLostError):
                await late.retry(timedelta(), "too late")
            assert await world.bus.queue.backlog() == {SERVICE: Backlog(batch=1)}

    async def test_a_lost_lease_that_is_released_frees_its_slot(self, world: World) -> None:
        await world.bus.queue.submit(invocation())
        async with world.bus.queue.leases(SERVICE, slots=1) as leases:
            late = await next_of(leases)
            await world.pass_time(world.lease)
            await late.release()
            again = await next_of(leases)
            assert again.lost >= 1
            await again.done()

    async def test_an_extended_lease_outlives_its_length(self, world: World) -> None:
        await world.bus.queue.submit(invocation())
        async with world.other() as other, world.bus.queue.leases(SERVICE, slots=1) as holder:
            held = await next_of(holder)
            first = held.deadline
            async with other.queue.leases(SERVICE, slots=1) as leases:
                for _ in range(6):
                    await world.pass_time(world.lease / 3)
                    await held.extend()
                assert held.deadline > first + world.lease
                await nothing_comes(world, leases)
                await held.done()
                await nothing_comes(world, leases)

    async def test_a_lease_whose_deadline_passed_is_not_extended(self, world: World) -> None:
        await world.bus.queue.submit(invocation())
        async with world.bus.queue.leases(SERVICE, slots=1) as leases:
            held = await next_of(leases)
            await world.pass_time(world.lease)
            with pytest.raises(LeaseLostError):
                await held.extend()

    async def test_a_retry_comes_after_its_delay_as_the_next_attempt(self, world: World) -> None:
        wanted = invocation(lane=Lane.INTERACTIVE)
        await world.bus.queue.submit(wanted)
        async with world.bus.queue.leases(SERVICE, slots=1) as leases:
            await (await next_of(leases)).retry(SHORT, "exit 1")
            await settles(world, {SERVICE: Backlog(delayed=1)})
            await nothing_comes(world, leases)
            await world.pass_time(SHORT)
            again = await next_of(leases)
            assert again.invocation == wanted
            assert (again.lane, again.attempt, again.failures, again.lost) == (Lane.INTERACTIVE, 2, 1, 0)
            await again.retry(timedelta(), "exit 1")
            third = await next_of(leases)
            assert (third.attempt, third.failures, third.lost) == (3, 2, 0)
            await third.done()
        await settles(world, {})

    async def test_an_attempt_that_is_planned_twice_is_queued_once(self, world: World) -> None:
        wanted = invocation()
        retry = asked(wanted, not_before=world.now() + SHORT)
        assert await world.bus.queue.plan(retry)
        assert not await world.bus.queue.plan(retry)
        assert await world.bus.queue.backlog() == {SERVICE: Backlog(delayed=1)}
        async with world.bus.queue.leases(SERVICE, slots=2) as leases:
            await nothing_comes(world, leases)
            await world.pass_time(SHORT)
            lease = await next_of(leases)
            assert (lease.invocation, lease.attempt, lease.failures, lease.lost) == (wanted, 3, 2, 0)
            assert not await world.bus.queue.plan(retry)
            await nothing_comes(world, leases)
            await lease.done()

    async def test_an_attempt_of_another_service_with_equal_ids_is_no_repeat(self, world: World) -> None:
        wanted = invocation()
        theirs = wanted.model_copy(update={"service": ServiceName("others")})
        assert await world.bus.queue.plan(asked(wanted))
        assert await world.bus.queue.plan(asked(theirs))

    async def test_what_was_planned_for_a_time_that_has_passed_comes_at_once(self, world: World) -> None:
        await world.bus.queue.plan(asked(invocation(), not_before=world.now() - SHORT))
        assert await world.bus.queue.backlog() == {SERVICE: Backlog(batch=1)}

    async def test_purge_drops_what_is_asked_for_as_well(self, world: World) -> None:
        retry = asked(invocation(ServiceName("kept")))
        async with world.unattended() as bus:
            await bus.log.append(RETRY_ASKED, retry, key="kept")
            await bus.log.append(RETRY_ASKED, asked(invocation()), key=SERVICE)
            assert await bus.queue.backlog() == {"kept": Backlog(delayed=1), SERVICE: Backlog(delayed=1)}
            assert await bus.queue.purge(SERVICE) == 1
            assert await bus.queue.backlog() == {"kept": Backlog(delayed=1)}

    async def test_what_is_asked_for_waits_for_who_stores_it(self, world: World) -> None:
        async with world.unattended() as bus, bus.queue.leases(SERVICE, slots=1) as leases:
            await bus.queue.submit(invocation())
            await (await next_of(leases)).retry(timedelta(), "exit 1")
            await nothing_comes(world, leases)
            assert await bus.queue.backlog() == {SERVICE: Backlog(delayed=1)}
            async with storing_retries(bus):
                again = await next_of(leases)
                assert (again.attempt, again.failures) == (2, 1)
                await again.done()
                await settles(world, {})

    async def test_a_submit_for_later_waits_for_its_time(self, world: World) -> None:
        wanted = invocation()
        now = world.now()
        assert await world.bus.queue.submit(wanted, not_before=now + SHORT)
        assert not await world.bus.queue.submit(wanted)
        assert await world.bus.queue.backlog() == {SERVICE: Backlog(delayed=1)}
        async with world.bus.queue.leases(SERVICE, slots=1) as leases:
            await nothing_comes(world, leases)
            await world.pass_time(SHORT)
            lease = await next_of(leases)
            assert (lease.invocation, lease.attempt) == (wanted, 1)
            await lease.done()

    async def test_a_dead_invocation_is_kept_on_dead_and_not_leased_again(self, world: World) -> None:
        await world.bus.queue.submit(invocation())
        async with world.bus.queue.leases(SERVICE, slots=1) as leases:
            lease = await next_of(leases)
            await lease.dead(letter(lease))
            await nothing_comes(world, leases)
        async with world.bus.log.read(SET_ASIDE, key=SERVICE) as records:
            letters = [record.body async for record in records]
        assert [each.invocation for each in letters] == [lease.invocation]

    async def test_a_released_lease_comes_again_at_once(self, world: World) -> None:
        first, second = invocation(), invocation()
        await world.bus.queue.submit(first)
        await world.bus.queue.submit(second)
        async with world.bus.queue.leases(SERVICE, slots=1) as leases:
            await (await next_of(leases)).release()
            again = await next_of(leases)
            assert (again.invocation, again.failures) == (first, 0)
            await again.done()

    async def test_stopping_ends_iteration_and_leaves_leases_to_their_holder(self, world: World) -> None:
        await world.bus.queue.submit(invocation())
        async with world.bus.queue.leases(SERVICE, slots=4) as leases:
            held = await next_of(leases)
            waiting = asyncio.ensure_future(anext(aiter(leases)))
            await asyncio.sleep(0)
            leases.stop()
            with pytest.raises(StopAsyncIteration):
                await soon(waiting)
            await held.done()
        assert await world.bus.queue.backlog() == {}

    async def test_what_nobody_took_is_free_for_others_after_stopping(self, world: World) -> None:
        for _ in range(3):
            await world.bus.queue.submit(invocation())
        async with world.other() as other, other.queue.leases(SERVICE, slots=3) as leases:
            async with world.bus.queue.leases(SERVICE, slots=3):
                await asyncio.sleep(world.quiet)
            for _ in range(3):
                await (await next_of(leases)).done()
        assert await world.bus.queue.backlog() == {}

    async def test_interactive_goes_first(self, world: World) -> None:
        for lane in (Lane.BATCH, Lane.BATCH, Lane.INTERACTIVE, Lane.INTERACTIVE):
            await world.bus.queue.submit(invocation(lane=lane))
        lanes = []
        async with world.bus.queue.leases(SERVICE, slots=1) as leases:
            for _ in range(4):
                lease = await next_of(leases)
                lanes.append(lease.lane)
                await lease.done()
        assert lanes == [Lane.INTERACTIVE, Lane.INTERACTIVE, Lane.BATCH, Lane.BATCH]

    @pytest.mark.parametrize("slots", [1, 3])
    async def test_nothing_is_leased_beyond_the_slots(self, world: World, slots: int) -> None:
        """What waits is at another Worker's disposal at once, and keeps its first Attempt."""
        total = 8
        async with world.bus.queue.leases(SERVICE, slots=slots) as busy:
            await asyncio.sleep(world.quiet)  # both lanes are listened to now
            for number in range(total):
                lane = Lane.INTERACTIVE if number % 2 else Lane.BATCH
                await world.bus.queue.submit(invocation(lane=lane))
            held = [await next_of(busy) for _ in range(slots)]
            await nothing_comes(world, busy)
            async with world.other() as other, other.queue.leases(SERVICE, slots=total) as free:
                leases = held + [await next_of(free) for _ in range(total - slots)]
                assert len({lease.invocation.id for lease in leases}) == total
                assert sum(lease.lost for lease in leases) <= 1
                for lease in leases:
                    await lease.done()

    async def test_what_is_allowed_can_grow_and_shrink(self, world: World) -> None:
        for _ in range(6):
            await world.bus.queue.submit(invocation())
        async with world.bus.queue.leases(SERVICE, slots=1) as leases:
            held = [await next_of(leases)]
            await nothing_comes(world, leases)
            leases.allow(4)
            held += [await next_of(leases) for _ in range(3)]
            await nothing_comes(world, leases)
            leases.allow(1)
            for lease in held[:3]:
                await lease.done()
            await nothing_comes(world, leases)
            await held[3].done()
            last = await next_of(leases)
            assert last.lost == 0
            await last.done()

    async def test_a_freed_slot_is_filled_again(self, world: World) -> None:
        submitted = [invocation() for _ in range(20)]
        for each in submitted:
            await world.bus.queue.submit(each)
        done = set()
        async with world.bus.queue.leases(SERVICE, slots=3) as leases:
            for _ in submitted:
                lease = await next_of(leases)
                done.add(lease.invocation.id)
                await lease.done()
        assert done == {each.id for each in submitted}

    async def test_competing_workers_share_without_doubles(self, world: World) -> None:
        submitted = [invocation() for _ in range(60)]
        done: list[str] = []
        finished = asyncio.Event()

        async def work() -> None:
            async with world.other() as bus, bus.queue.leases(SERVICE, slots=2) as leases:
                async for lease in leases:
                    done.append(lease.invocation.id)
                    await lease.done()
                    if len(done) >= len(submitted):
                        finished.set()

        workers = [asyncio.create_task(work()) for _ in range(3)]
        for each in submitted:
            await world.bus.queue.submit(each)
        await soon(finished.wait())
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        assert sorted(done) == sorted(each.id for each in submitted)

    async def test_the_backlog_of_a_thousand_services_is_one_answer(self, world: World) -> None:
        names = [ServiceName(f"service-{number}") for number in range(1000)]
        await asyncio.gather(*(world.bus.queue.submit(invocation(name)) for name in names))
        await world.bus.queue.submit(invocation(names[0], lane=Lane.INTERACTIVE))
        backlog = await world.bus.queue.backlog()
        assert backlog.keys() == set(names)
        assert backlog[names[0]] == Backlog(interactive=1, batch=1)
        assert backlog[names[0]].ready == 2

    async def test_leased_invocations_count_in_the_backlog(self, world: World) -> None:
        await world.bus.queue.submit(invocation())
        async with world.bus.queue.leases(SERVICE, slots=1) as leases:
            lease = await next_of(leases)
            assert await world.bus.queue.backlog() == {SERVICE: Backlog(batch=1)}
            await lease.done()

    async def test_purge_drops_what_waits_for_one_service(self, world: World) -> None:
        kept = invocation(ServiceName("kept"))
        await world.bus.queue.submit(kept)
        await world.bus.queue.submit(invocation())
        await world.bus.queue.submit(invocation(lane=Lane.INTERACTIVE))
        await world.bus.queue.submit(invocation(), not_before=world.now() + timedelta(hours=1))
        assert await world.bus.queue.purge(SERVICE) == 3
        assert await world.bus.queue.backlog() == {"kept": Backlog(batch=1)}

    async def test_a_full_queue_refuses_and_takes_again(self, world: World) -> None:
        async with world.other(work_max_messages=2, shards=1) as bus:
            first = invocation()
            await bus.queue.submit(first)
            await bus.queue.submit(invocation())
            with pytest.raises(ThrottledError) as refusal:
                await bus.queue.submit(invocation())
            assert refusal.value.retry_after
            async with bus.queue.leases(SERVICE, slots=1) as leases:
                await (await next_of(leases)).done()
            async with asyncio.timeout(30):
                while True:
                    try:
                        assert await bus.queue.submit(invocation())
                        break
                    except ThrottledError:
                        await asyncio.sleep(0.02)

    async def test_poison_is_set_aside_before_anybody_sees_it(self, world: World) -> None:
        await world.inject(SERVICE, Lane.BATCH, b"{not json")
        good = invocation()
        await world.bus.queue.submit(good)
        async with world.bus.queue.leases(SERVICE, slots=1) as leases:
            lease = await next_of(leases)
            assert lease.invocation == good
            await lease.done()
        assert await world.bus.queue.backlog() == {}
        async with world.bus.log.read(POISONED, key=SERVICE) as records:
            (poison,) = [record.body async for record in records]
        assert (poison.service, poison.body, poison.reason) == (SERVICE, b"{not json", Reason.INVALID_MESSAGE)

    async def test_submit_wakes_whoever_listens(self, world: World) -> None:
        async with world.bus.live.subscribe("live.work.*") as wakes:
            await world.bus.queue.submit(invocation())
            subject, _ = await next_of(wakes)
            assert subject == f"live.work.{SERVICE}"
