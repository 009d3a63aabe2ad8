"""A scheduler on this machine with Workers in a real cluster; pods reach bus and store on loopback through relays.

The cluster is the one of $KUBECONFIG. Each test has a namespace of its own, which is removed with it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from tests.integration.supervisor.platform import KEYS, Platform, platform
from tests.kubernetes.relay import Relay, relay
from tests.kubernetes.waiting import until
from tests.servers import Running
from tidemill.platform.servers import NatsServer, SeaweedServer
from tidemill_common.contracts.contract import InvocationId
from tidemill_common.contracts.invocation import CHANGED, TERMINAL, Change, InvocationChanged
from tidemill_common.errors import ConflictError
from tidemill_common.secrets import PLATFORM, S3Credentials, SecretRecord
from tidemill_scheduler.launchers.kubernetes.api import KubernetesApi, Object, open_api
from tidemill_scheduler.launchers.kubernetes.rights import CLUSTER_RULES, NAMESPACE_RULES

KUBECONFIG = Path(os.environ.get("KUBECONFIG", ""))
USER_IMAGE = os.environ.get("TIDEMILL_TEST_USER_IMAGE", "localhost/busybox:1")
_CLUSTER = "/apis/rbac.authorization.k8s.io/v1"
SUPERVISOR_IMAGE = os.environ.get("TIDEMILL_TEST_SUPERVISOR_IMAGE", "localhost/tidemill/supervisor:test")
_PATIENCE: Final = 120.0
"""Seconds within which anything must happen: pods start slowly on a machine that has other work."""
SUPERVISOR_COMMAND = json.loads(os.environ.get("TIDEMILL_TEST_SUPERVISOR_COMMAND", "[]"))


@dataclass
class World:
    """What a test sees: the platform of the supervisor's tests, the cluster, and schedulers."""

    platform: Platform
    api: KubernetesApi
    namespace: str
    api_relay: Relay
    bus_relay: Relay
    store_relay: Relay
    directory: Path
    schedulers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    token: str = ""
    """Of the account that schedulers have; empty: the administrator's."""
    leftovers: list[str] = field(default_factory=list)
    """What the namespace does not take along."""

    @property
    def jobs(self) -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs"

    @property
    def pods(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def start(self, **settings: str) -> subprocess.Popen[bytes]:
        """A scheduler as a process; settings in the spelling of the environment, without the prefix."""
        values = {
            "BUS__URL": self.platform.bus_settings.url,
            "LAUNCHER": "kubernetes",
            "KUBERNETES__KUBECONFIG": str(self._kubeconfig(self.token)),
            "KUBERNETES__NAMESPACE": self.namespace,
            "KUBERNETES__BUS_URL": f"nats://{self.bus_relay.host}:{self.bus_relay.port}",
            "KUBERNETES__SUPERVISOR__IMAGE": SUPERVISOR_IMAGE,
            "KUBERNETES__SUPERVISOR__COMMAND": json.dumps(SUPERVISOR_COMMAND),
            "STATE_DIR": str(self.directory / "state"),
            "IDLE_TIMEOUT": "PT3S",
            **settings,
        }
        environment = {f"TIDEMILL_SCHEDULER_{name}": value for name, value in values.items()}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tidemill_scheduler"], env={**os.environ, **environment}, stdout=log, stderr=log
            )
        self.schedulers.append(process)
        return process

    @property
    def log(self) -> Path:
        """What schedulers write."""
        return self.directory / "scheduler.log"

    async def jobs_now(self) -> list[Object]:
        """The Jobs there are."""
        return list((await self.api.get(self.jobs))["items"])

    async def pods_now(self) -> list[Object]:
        """The pods there are."""
        return list((await self.api.get(self.pods))["items"])

    async def running_pods(self) -> list[Object]:
        """Pods whose user container runs."""
        return [pod for pod in await self.pods_now() if _user_runs(pod)]

    async def status(self) -> dict[str, Any]:
        """What the status board says of the Service."""
        found = await self.platform.bus.registers.get("scheduler.status")
        view = {} if found is None else json.loads(found.value)
        return dict(view.get("services", {}).get(self.platform.name, {}))

    async def says(self, name: str, *words: str) -> str:
        """A field of the status, once it has one of these words."""

        async def said() -> str:
            found = str((await self.status()).get(name, ""))
            return found if any(word in found for word in words) else ""

        found: str = await self.until(said, f"`{name}` says {' or '.join(words)}")
        return found

    async def changed(self, invocation: InvocationId, change: Change) -> InvocationChanged:
        """The first record of this kind of an Invocation."""
        return (await self._told_until(invocation, change))[-1]

    async def started(self, invocation: InvocationId) -> None:
        """Return when its first Attempt has started."""
        await self._told_until(invocation, Change.STARTED)

    async def ended(self, invocation: InvocationId) -> InvocationChanged:
        """Its first terminal record."""
        return (await self._told_until(invocation, *TERMINAL))[-1]

    async def changes(self, invocation: InvocationId) -> list[InvocationChanged]:
        """Its records up to the first terminal one."""
        return await self._told_until(invocation, *TERMINAL)

    async def _told_until(self, invocation: InvocationId, *changes: Change) -> list[InvocationChanged]:
        told: list[InvocationChanged] = []
        key = self.platform.name
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE), self.platform.bus.log.read(CHANGED, key=key, follow=True) as records:
                async for record in records:
                    if record.body.invocation_id == invocation:
                        told.append(record.body)
                        if record.body.change in changes:
                            return told
        raise AssertionError(f"not {' or '.join(changes)} within {_PATIENCE} s: {told}\n{self._tail()}")

    async def put_secret(self, name: str, record: SecretRecord) -> None:
        """As the gateway would, for pods."""
        body = base64.b64encode(record.model_dump_json().encode()).decode()
        secret = {"metadata": {"name": name}, "data": {"record.json": body}}
        with contextlib.suppress(ConflictError):
            await self.api.create(f"/api/v1/namespaces/{self.namespace}/secrets", secret)

    async def until(self, condition: Callable[[], Any], what: str, *, seconds: float = _PATIENCE) -> Any:
        """Wait for a condition (a function, or a coroutine function); what it gave."""
        return await until(condition, what, seconds=seconds, show=self._tail)

    def _tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def end(self) -> None:
        """kill -9 of every scheduler; Workers go with the namespace."""
        for process in self.schedulers:
            if process.poll() is None:
                process.kill()
            process.wait()

    async def give_account(self, name: str) -> None:
        """Schedulers have the rights of the launcher from now on, and no more."""
        account = {"metadata": {"name": name}}
        core = f"/api/v1/namespaces/{self.namespace}/serviceaccounts"
        roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.namespace}"
        await self.api.create(core, account)
        subject = {"kind": "ServiceAccount", "name": name, "namespace": self.namespace}
        for kind, path, rules in (("Role", roles, NAMESPACE_RULES), ("ClusterRole", _CLUSTER, CLUSTER_RULES)):
            plural = f"{kind.lower()}s"
            made = f"{self.namespace}-{name}"
            reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": made}
            binding = {"metadata": {"name": made}, "roleRef": reference, "subjects": [subject]}
            await self.api.create(f"{path}/{plural}", {"metadata": {"name": made}, "rules": list(rules)})
            await self.api.create(f"{path}/{kind.lower()}bindings", binding)
            if kind == "ClusterRole":
                self.leftovers += [f"{path}/{plural}/{made}", f"{path}/{kind.lower()}bindings/{made}"]
        self.token = (await self.api.create(f"{core}/{name}/token", {"metadata": {}, "spec": {}}))["status"]["token"]
        await self.until(lambda: self._is_allowed(name), "the account's rights hold")

    async def _is_allowed(self, name: str) -> bool:
        """Whether both bindings are heeded: a moment after they were made."""
        user = f"system:serviceaccount:{self.namespace}:{name}"
        jobs = {"verb": "list", "group": "batch", "resource": "jobs", "namespace": self.namespace}
        found = []
        for asked in (jobs, {"verb": "list", "resource": "nodes"}):
            review = {"metadata": {}, "spec": {"user": user, "resourceAttributes": asked}}
            answer = await self.api.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
            found.append(answer["status"]["allowed"])
        return all(found)

    def _kubeconfig(self, token: str) -> Path:
        """The cluster's, by way of the relay."""
        config = yaml.safe_load(KUBECONFIG.read_text())
        for cluster in config["clusters"]:
            name = urlsplit(cluster["cluster"]["server"]).hostname
            cluster["cluster"]["tls-server-name"] = name
            cluster["cluster"]["server"] = f"https://{self.api_relay.host}:{self.api_relay.port}"
        if token:
            config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
        path = self.directory / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path


def _user_runs(pod: Object) -> bool:
    statuses = {status["name"]: status for status in pod["status"].get("containerStatuses", ())}
    return "running" in statuses.get("user", {}).get("state", {})


@contextlib.asynccontextmanager
async def world(nats: Running, seaweed: Running, directory: Path) -> AsyncIterator[World]:
    """Everything, in a namespace of its own."""
    assert isinstance(nats.server, NatsServer)
    assert isinstance(seaweed.server, SeaweedServer)
    store = urlsplit(seaweed.server.endpoint)
    server = urlsplit(_server())
    assert server.port is not None
    assert store.port is not None
    async with open_api(KUBECONFIG, None) as api:
        host = await _host_address(api)
        async with (
            relay(host, nats.server.port) as bus_relay,
            relay(host, store.port) as store_relay,
            relay("127.0.0.1", server.port, target=str(server.hostname)) as api_relay,
            platform(nats, seaweed, directory) as made,
            _namespace(api) as namespace,
        ):
            here = World(made, api, namespace, api_relay, bus_relay, store_relay, directory)
            endpoint = f"http://{store_relay.host}:{store_relay.port}"
            fields = S3Credentials(endpoint=endpoint, access_key=KEYS[0], secret_key=KEYS[1]).model_dump()
            await here.put_secret(f"tidemill-{PLATFORM}", SecretRecord(providers={"minio.default": fields}))
            try:
                yield here
            finally:
                here.end()
                for path in here.leftovers:
                    await api.delete(path)
                if made.revision:
                    await made.remove()  # or later schedulers on this bus would serve it


@contextlib.asynccontextmanager
async def _namespace(api: KubernetesApi) -> AsyncIterator[str]:
    name = f"kube-{secrets.token_hex(4)}"
    await api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    try:
        yield name
    finally:
        await api.delete(f"/api/v1/namespaces/{name}", propagationPolicy="Background")


async def _host_address(api: KubernetesApi) -> str:
    """An address of this machine that pods reach: a node's, when this machine is one, else the way to it."""
    nodes = (await api.get("/api/v1/nodes"))["items"]
    address = next(entry["address"] for entry in nodes[0]["status"]["addresses"] if entry["type"] == "InternalIP")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        return str(probe.getsockname()[0])


def _server() -> str:
    config = yaml.safe_load(KUBECONFIG.read_text())
    return str(config["clusters"][0]["cluster"]["server"])
