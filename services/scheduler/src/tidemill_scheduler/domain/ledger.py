"""Room of Pools and quotas, now and once everything that drains has gone."""

from __future__ import annotations

from collections.abc import Mapping

from tidemill_scheduler.domain.demands import bound
from tidemill_scheduler.domain.muster import Room
from tidemill_scheduler.domain.snapshot import Pool, Quota, Snapshot, Worker, WorkerState


class Account:
    """Free room, `*_now` and `*_soon`: less what waits for it, more what drains.

    Args:
        beside: CPU and memory that each Worker takes beside its own.
    """

    __slots__ = (
        "beside_cpu",
        "beside_memory",
        "cpu_now",
        "cpu_soon",
        "memory_now",
        "memory_soon",
        "workers_now",
        "workers_soon",
    )

    def __init__(self, quota: Quota, *, beside: tuple[int, int] = (0, 0)) -> None:
        self.beside_cpu, self.beside_memory = beside
        self.cpu_now = self.cpu_soon = bound(quota.cpu_millicores)
        self.memory_now = self.memory_soon = bound(quota.memory_bytes)
        self.workers_now = self.workers_soon = bound(quota.workers)

    def fits_now(self, cpu: int, memory: int, workers: int = 1) -> bool:
        """Whether it may start at once without taking what others wait for."""
        cpu += workers * self.beside_cpu
        memory += workers * self.beside_memory
        return (
            workers <= self.workers_soon
            and cpu <= self.cpu_soon
            and memory <= self.memory_soon
            and workers <= self.workers_now
            and cpu <= self.cpu_now
            and memory <= self.memory_now
        )

    def fits_soon(self, cpu: int, memory: int) -> bool:
        """Whether it fits when everything that drains has gone."""
        return (
            self.workers_soon > 0
            and cpu + self.beside_cpu <= self.cpu_soon
            and memory + self.beside_memory <= self.memory_soon
        )

    def is_exceeded(self) -> bool:
        """Whether more is taken than there is, even when everything that drains has gone."""
        return self.workers_soon < 0 or self.cpu_soon < 0 or self.memory_soon < 0

    def take(self, cpu: int, memory: int, workers: int = 1) -> None:
        """One Worker more, or several with their sums, takes room until it ends."""
        self.take_now(cpu, memory, workers)
        self.take_soon(cpu, memory, workers)

    def take_now(self, cpu: int, memory: int, workers: int = 1) -> None:
        """Something takes room that will leave."""
        self.workers_now -= workers
        self.cpu_now -= cpu + workers * self.beside_cpu
        self.memory_now -= memory + workers * self.beside_memory

    def take_soon(self, cpu: int, memory: int, workers: int = 1) -> None:
        """Something will have room that is there now or will be."""
        self.workers_soon -= workers
        self.cpu_soon -= cpu + workers * self.beside_cpu
        self.memory_soon -= memory + workers * self.beside_memory


class Ledger:
    """The accounts of all Pools and of the owners in a snapshot."""

    def __init__(self, snapshot: Snapshot, rooms: Mapping[tuple[str, str, WorkerState], Room]) -> None:
        self._snapshot = snapshot
        self.pools = {pool.name: _account(pool) for pool in snapshot.pools}
        self.owners: dict[str, Account] = {}
        self.starting = {pool.name: bound(pool.max_starting) for pool in snapshot.pools}
        """How many more may start in each Pool."""
        for (owner, name, state), room in rooms.items():
            self._enter(owner, name, state, room)

    def owner(self, name: str) -> Account:
        """The account of one owner's quota."""
        account = self.owners.get(name)
        if account is None:
            account = self.owners[name] = Account(self._snapshot.quotas.get(name, self._snapshot.default_quota))
        return account

    def drain(self, worker: Worker) -> None:
        """It will leave."""
        for account in self._accounts(worker):
            account.take_soon(-worker.cpu_millicores, -worker.memory_bytes, -1)

    def keep(self, worker: Worker) -> None:
        """It will not leave after all."""
        for account in self._accounts(worker):
            account.take_soon(worker.cpu_millicores, worker.memory_bytes)

    def _accounts(self, worker: Worker) -> list[Account]:
        pool = self.pools.get(worker.pool)
        return [self.owner(worker.owner)] if pool is None else [self.owner(worker.owner), pool]

    def _enter(self, owner: str, pool_name: str, state: WorkerState, room: Room) -> None:
        """Book the Workers of one owner in one Pool."""
        pool = self.pools.get(pool_name)
        for account in (pool, self.owner(owner)):
            if account is not None and state is WorkerState.DRAINING:
                account.take_now(room.cpu, room.memory, room.workers)
            elif account is not None:
                account.take(room.cpu, room.memory, room.workers)
        if state is WorkerState.STARTING and pool is not None:
            self.starting[pool_name] -= room.workers


def _account(pool: Pool) -> Account:
    capacity = Quota(cpu_millicores=pool.cpu_millicores, memory_bytes=pool.memory_bytes)
    return Account(capacity, beside=(pool.beside_cpu_millicores, pool.beside_memory_bytes))
