"""Faults to try on a release that works: what happens to pods anywhere, and to the node of the testbed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.kubernetes.release import Release, wait_until
from tests.kubernetes.testbed import Testbed
from tidemill_common.contracts.invocation import Reason

OUTAGE: Final = 3.0
"""Seconds without a part of the node."""
WORKER: Final = "tidemill.io/worker"
Pod = dict[str, Any]


@dataclass
class Stage:
    """Where faults happen: Services of a release, and what was done to their Workers."""

    release: Release
    services: Sequence[str]
    struck: dict[str, Sequence[str]] = field(default_factory=dict)
    """Worker → words of which one should be said of it."""
    allowed: set[Reason] = field(default_factory=set)
    """Why an Attempt of any Worker may fail by now."""

    @property
    def selector(self) -> str:
        """Of the Workers' pods."""
        return f"tidemill.io/service in ({','.join(self.services)})"

    def pods(self) -> list[Pod]:
        """Pods of Workers that have not ended, those whose containers run first."""
        found = self.release.cluster.get("pods", "-n", self.release.workers, "-l", self.selector)["items"]
        alive = [pod for pod in found if pod["status"]["phase"] in ("Pending", "Running")]
        return sorted(alive, key=lambda pod: not runs(pod))

    def active(self) -> list[str]:
        """Pods and Jobs of Workers that have not ended."""
        jobs = self.release.cluster.get("jobs", "-n", self.release.workers, "-l", self.selector)["items"]
        running = [job for job in jobs if job["status"].get("active")]
        return [str(one["metadata"]["name"]) for one in (*running, *self.pods())]

    def victim(self, *words: str) -> Pod:
        """A Worker that runs; what happens to it is told in one of these words."""
        pod: Pod = wait_until(
            lambda: next(filter(runs, self.pods()), None), "a Worker runs", show=lambda: str(self.active())
        )
        self.strike(pod, *words)
        return pod

    def strike(self, pod: Pod, *words: str) -> None:
        """Note it. One that is struck twice may be told of either."""
        worker = pod["metadata"]["labels"][WORKER]
        self.struck[worker] = (*self.struck.get(worker, ()), *words)

    def settle(self) -> None:
        """Wait until what was struck is told: its reason is known to the scheduler, which may be the next to go."""
        self.release.target.wait(
            lambda: not self._untold(), "all that was struck is told", show=self._untold, every=0.5
        )

    def _untold(self) -> list[Any]:
        rows = [row for name in self.services for row in self.release.target.invocations(name)]
        return [row for row in rows if row["phase"] == "Running" and row["worker"] in self.struck]

    def delete(self, pod: Pod, *options: str) -> None:
        """`kubectl delete pod`; one that has ended meanwhile may be gone."""
        name, place = pod["metadata"]["name"], pod["metadata"]["namespace"]
        self.release.cluster.run("delete", "pod", name, "-n", place, "--wait=false", "--ignore-not-found", *options)

    def component(self, name: str) -> Pod:
        """The pod of a component of the platform."""
        chosen = ("-n", self.release.namespace, "-l", f"app.kubernetes.io/component={name}")
        found: list[Pod] = self.release.cluster.get("pods", *chosen)["items"]
        return next(pod for pod in found if "deletionTimestamp" not in pod["metadata"])


Fault = Callable[[Stage], None]


def runs(pod: Pod) -> bool:
    """Whether all of its containers run, and nobody deleted it."""
    statuses = pod["status"].get("containerStatuses", ())
    running = statuses and all("running" in status["state"] for status in statuses)
    return bool(running) and "deletionTimestamp" not in pod["metadata"]


def container_of(pod: Pod, name: str) -> str:
    """The id of a container."""
    return next(str(one["containerID"]) for one in pod["status"]["containerStatuses"] if one["name"] == name)


def worker_deleted(stage: Stage) -> None:
    """A pod is deleted by hand, with time to end in order."""
    stage.delete(stage.victim("PodDeleted"))


def worker_deleted_at_once(stage: Stage) -> None:
    """A pod is deleted by hand and killed a second later."""
    stage.delete(stage.victim("PodDeleted"), "--grace-period=1")


def worker_forgotten(stage: Stage) -> None:
    """The API forgets a pod at once; its node ends it when it hears of that."""
    stage.delete(stage.victim("PodDeleted"), "--grace-period=0", "--force")


def scheduler_deleted(stage: Stage) -> None:
    """The scheduler's pod goes, and another comes."""
    stage.settle()
    stage.delete(stage.component("scheduler"), "--grace-period=0", "--force")


def node_drained(stage: Stage) -> None:
    """`kubectl drain` of a node, as far as Workers are concerned; it may be used again afterwards."""
    pod = stage.victim("EvictionByEvictionAPI")
    node, cluster = pod["spec"]["nodeName"], stage.release.cluster
    for other in stage.pods():
        stage.strike(other, "EvictionByEvictionAPI")
    options = ("--delete-emptydir-data", "--ignore-daemonsets", "--timeout=60s")
    try:
        cluster.run("drain", node, f"--pod-selector={stage.selector}", *options)
    finally:
        cluster.run("uncordon", node)


def scheduler_killed(testbed: Testbed) -> Fault:
    """kill -9 of the scheduler's process."""

    def strike(stage: Stage) -> None:
        stage.settle()
        testbed.kill_container(container_of(stage.component("scheduler"), "scheduler"))

    return strike


def supervisor_killed(testbed: Testbed) -> Fault:
    """kill -9 of one supervisor, and of nothing else of its pod."""
    return lambda stage: testbed.kill_container(container_of(stage.victim("signal 9"), "supervisor"))


def user_code_killed(testbed: Testbed) -> Fault:
    """kill -9 of the first process of one user container."""
    return lambda stage: testbed.kill_container(container_of(stage.victim("exit code 137"), "user"))


def part_killed(testbed: Testbed, part: str) -> Fault:
    """kill -9 of a part of the node or of the control plane, which comes back after a while.

    A kubelet that starts calls every pod unready until its probes have passed: nobody reaches the store meanwhile,
    which lasts while other parts are away.
    """

    def strike(stage: Stage) -> None:
        stage.settle()
        stage.allowed |= {Reason.STAGE_IN_FAILED, Reason.STAGE_OUT_FAILED}
        testbed.kill(part)
        time.sleep(OUTAGE)
        testbed.up()

    return strike
