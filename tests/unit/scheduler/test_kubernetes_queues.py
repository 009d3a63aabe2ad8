"""Kueue's LocalQueues: made for whom they are needed, once Kueue is there."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.scheduler.test_kubernetes_launcher import MemoryApi
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.contracts.service import Service
from tidemill_common.errors import NotFoundError
from tidemill_scheduler.launchers.kubernetes.api import Object
from tidemill_scheduler.launchers.kubernetes.labels import ADMIN, cluster_queue_of, local_queue_of
from tidemill_scheduler.launchers.kubernetes.queues import Queues
from tidemill_scheduler.launchers.kubernetes.settings import KubernetesSettings

PATH = "/apis/kueue.x-k8s.io/v1beta2/namespaces/tidemill-services/localqueues"


class KueueApi(MemoryApi):
    """Says which version of Kueue's API it prefers; none: Kueue is not installed."""

    def __init__(self, version: str | None = "v1beta2") -> None:
        super().__init__()
        self.version = version

    async def get(self, path: str, **query: str) -> Object:
        if self.version is None:
            raise NotFoundError(path)
        return {"preferredVersion": {"version": self.version}}


def service(name: str, owner: str = "ann") -> Service:
    return Service(name=ServiceName(name), image="example.org/a:1", script="", owner=owner)


def services(*wanted: Service) -> dict[ServiceName, Service]:
    return {each.name: each for each in wanted}


async def test_each_service_but_the_admins_has_a_queue_made_once_and_removed_with_it() -> None:
    api = KueueApi()
    queues = Queues(api, KubernetesSettings(kueue=True))
    for _ in range(2):
        await queues.tend(services(service("gray"), service("theirs", ADMIN)))
    await queues.remove(ServiceName("gray"))
    assert api.written == [("POST", f"{PATH}/oscar-lq-gray"), ("DELETE", f"{PATH}/oscar-lq-gray")]


async def test_a_queue_that_is_there_is_left_alone() -> None:
    api = KueueApi()
    for _ in range(2):  # the next scheduler knows nothing of the first one's
        await Queues(api, KubernetesSettings(kueue=True)).tend(services(service("gray")))
    assert api.taken == {f"{PATH}/oscar-lq-gray"}


@pytest.mark.parametrize("settings", [{}, {"kueue": True, "kueue_queue": "team-{owner}"}], ids=["no kueue", "shared"])
async def test_without_kueue_and_with_shared_queues_nothing_is_written(settings: dict[str, Any]) -> None:
    api = KueueApi()
    queues = Queues(api, KubernetesSettings(**settings))
    await queues.tend(services(service("gray")))
    await queues.remove(ServiceName("gray"))
    assert api.written == []


async def test_a_kueue_that_is_not_installed_yet_stops_nothing_else() -> None:
    api = KueueApi(version=None)
    await Queues(api, KubernetesSettings(kueue=True)).tend(services(service("gray")))
    assert api.written == []


@pytest.mark.parametrize(
    ("owner", "name"), [("ann", "ann"), ("Ann_B", "ann-b"), ("0f3a@egi.eu", "0f3a"), ("ann@site", "ann-site")]
)
def test_owners_are_names_of_queues(owner: str, name: str) -> None:
    settings = KubernetesSettings(kueue_queue="team-{owner}")
    assert local_queue_of(service("gray", owner), settings) == f"team-{name}"
    assert cluster_queue_of(service("gray", owner), settings) == f"oscar-cq-{name}"
