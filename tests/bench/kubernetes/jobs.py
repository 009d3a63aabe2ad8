"""Plain Jobs by a direct client: what the node itself takes, with nothing of tidemill running in them."""

from __future__ import annotations

import asyncio
import copy
import secrets
import time
from dataclasses import dataclass
from typing import Any, Final

from tidemill_scheduler.launchers.kubernetes.api import KubernetesApi, Object

CLOCK: Final = "date +%s%N > /dev/termination-log"
"""The container's first command; the node keeps what it writes."""


@dataclass(frozen=True, slots=True)
class PlainJobs:
    """Makes Jobs in one namespace."""

    api: KubernetesApi
    namespace: str

    @property
    def jobs(self) -> str:
        """Path of the Jobs."""
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs"

    @property
    def pods(self) -> str:
        """Path of the pods."""
        return f"/api/v1/namespaces/{self.namespace}/pods"

    async def seconds_to_code(self, job: Object) -> float:
        """From before the Job's creation to the first command of its container `user`; the Job is removed."""
        begin = time.time()
        await self.api.create(self.jobs, job)
        name = job["metadata"]["name"]
        pod = await self.ended_pod(name)
        found = int(_status(pod, "user")["state"]["terminated"]["message"]) / 1e9 - begin
        await self.api.delete(f"{self.jobs}/{name}", propagationPolicy="Background")
        return found

    async def ended_pod(self, job: str) -> Object:
        """The pod of a Job, once it is over."""
        while True:
            found = (await self.api.get(self.pods, labelSelector=f"batch.kubernetes.io/job-name={job}"))["items"]
            if found and found[0]["status"].get("phase") in ("Succeeded", "Failed"):
                return dict(found[0])
            await asyncio.sleep(0.2)

    async def count_complete(self, labels: str) -> int:
        """Jobs of these labels that did their work."""
        found = (await self.api.get(self.jobs, labelSelector=labels))["items"]
        return sum(job["status"].get("succeeded", 0) for job in found)

    async def completed(self, labels: str, count: int) -> None:
        """Return when so many are complete."""
        while await self.count_complete(labels) < count:
            await asyncio.sleep(0.5)

    async def remove(self, labels: str) -> None:
        """Remove them with their pods, and wait until those are gone."""
        for job in (await self.api.get(self.jobs, labelSelector=labels))["items"]:
            await self.api.delete(f"{self.jobs}/{job['metadata']['name']}", propagationPolicy="Background")
        while (await self.api.get(self.pods, labelSelector=labels))["items"]:
            await asyncio.sleep(0.5)

    async def newest(self, service: str) -> Object:
        """A Worker's Job."""
        found = await self.api.get(self.jobs, labelSelector=f"tidemill.io/service={service}")
        return dict(max(found["items"], key=lambda job: job["metadata"]["creationTimestamp"]))


def fresh(prefix: str) -> str:
    """A name that nobody used."""
    return f"{prefix}-{secrets.token_hex(4)}"


def same_as(worker: Object, *, user: str, supervisor: str | None) -> Object:
    """A Worker's Job with other commands, and without what would make it a Worker.

    Args:
        worker: The Job of a Worker, as the API has it.
        user: Shell code for the container of the user's image.
        supervisor: Shell code for the other container; None: without that container.
    """
    pod = copy.deepcopy(worker["spec"]["template"]["spec"])
    code = {"user": user, "supervisor": supervisor}
    pod["containers"] = [_running(found, code[found["name"]]) for found in pod["containers"] if code[found["name"]]]
    if supervisor is None:
        mounted = {mount["name"] for found in pod["containers"] for mount in found["volumeMounts"]}
        pod["volumes"] = [volume for volume in pod["volumes"] if volume["name"] in mounted]
    spec = {name: worker["spec"][name] for name in ("backoffLimit", "completions", "parallelism")}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": fresh("plain"), "labels": {"bench": "plain"}},
        "spec": {**spec, "template": {"metadata": {"labels": {"bench": "plain"}}, "spec": pod}},
    }


def _running(container: Object, code: str | None) -> Object:
    return {**container, "command": ["/bin/sh", "-c", code]}


def _status(pod: Object, container: str) -> dict[str, Any]:
    return next(status for status in pod["status"]["containerStatuses"] if status["name"] == container)
