"""The chart installed in a cluster, for tests: namespaces of its own, reached through `kubectl port-forward`."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from tests.kubernetes.kubectl import Cluster, fresh
from tests.scenarios import Target
from tidemill.platform.servers import free_port

CHART: Final = Path(__file__).parents[2] / "deploy" / "helm" / "tidemill"
NAME: Final = "tidemill"
_SMALL: Final = {"resources": {"requests": {"cpu": "10m", "memory": "64Mi"}}}
_WITHOUT_VOLUME: Final = {**_SMALL, "persistence": {"enabled": False}}
VALUES: Final[Mapping[str, Any]] = {
    "image": {
        "registry": "localhost",
        "tag": os.environ.get("TIDEMILL_TEST_TAG", "test"),
        "pullPolicy": "IfNotPresent",
    },
    "nats": {**_WITHOUT_VOLUME, "image": "localhost/testbed/nats:test"},
    "store": {"seaweedfs": {**_WITHOUT_VOLUME, "image": "localhost/testbed/seaweedfs:test"}},
    "gateway": _WITHOUT_VOLUME,
    "storageBridge": _SMALL,
    "scheduler": {**_SMALL, "environment": {"TIDEMILL_SCHEDULER_IDLE_TIMEOUT": "PT5S"}},
    "workers": {"pullPolicy": "IfNotPresent", "settings": {"supervisor": {"cpu_request": "10m"}}},
}
"""For images that were built here, on a node of two cores without volumes."""
USER_IMAGE: Final = os.environ.get("TIDEMILL_TEST_USER_IMAGE", "localhost/testbed/busybox:1")


@dataclass
class Release:
    """One installation."""

    cluster: Cluster
    helm: str
    namespace: str
    values: dict[str, Any]
    _forwards: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _target: Target | None = None

    @property
    def workers(self) -> str:
        """Namespace of the Workers."""
        return f"{self.namespace}-services"

    def apply(self, **values: Any) -> None:
        """Install it, or upgrade it to more values."""
        self.values = merged(self.values, values)
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(self.values, file)
            file.flush()
            place = ["-n", self.namespace, "--create-namespace", "--kubeconfig", os.environ["KUBECONFIG"]]
            command = [
                self.helm,
                "upgrade",
                "--install",
                NAME,
                str(CHART),
                *place,
                "--timeout",
                "180s",
                "-f",
                file.name,
            ]
            done = subprocess.run(command, capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr
        self.wait()

    def wait(self) -> None:
        """Until every component is ready."""
        for kind in ("statefulset", "deployment"):
            for name in sorted(self.cluster.names(kind, self.namespace)):
                done = self.cluster.run(
                    "rollout", "status", f"{kind}/{name}", "-n", self.namespace, "--timeout=180s", check=False
                )
                assert done.returncode == 0, f"{name}: {done.stderr}\n{self.state()}"

    def state(self) -> str:
        """What a person would look at."""
        seen = [self.cluster.run("get", "pods", "-n", self.namespace, check=False).stdout]
        for component in ("gateway", "storage-bridge", "scheduler", "streams"):
            chosen = f"app.kubernetes.io/component={component}"
            logs = self.cluster.run(
                "logs", "-n", self.namespace, "-l", chosen, "--all-containers", "--tail=15", "--prefix", check=False
            )
            seen.append(logs.stdout + logs.stderr)
        seen.append(self.cluster.run("get", "pods,jobs", "-n", self.workers, check=False).stdout)
        seen.append(self.cluster.run("get", "events", "-n", self.workers, check=False).stdout[-3000:])
        return "\n".join(seen)

    def secret(self, name: str, key: str) -> str:
        """One value of a Secret of the release's namespace."""
        data = self.cluster.get("secret", name, "-n", self.namespace)["data"]
        return base64.b64decode(data[key]).decode()

    @property
    def target(self) -> Target:
        """What scenarios need."""
        if self._target is None:
            keys = f"{NAME}-credentials"
            self._target = Target(
                endpoint=f"http://127.0.0.1:{self.forward(f'service/{NAME}-gateway', 80)}",
                username="oscar",
                password=self.secret(keys, "admin-password"),
                s3_endpoint=f"http://127.0.0.1:{self.forward(f'service/{NAME}-store', 8333)}",
                s3_access_key=self.secret(keys, "s3-access-key"),
                s3_secret_key=self.secret(keys, "s3-secret-key"),
                image=USER_IMAGE,
                patience=180,
            )
        return self._target

    def forward(self, what: str, port: int) -> int:
        """A port of this machine that leads to `service/…` or `pod/…`; also after a Service's pods have changed.

        It leads there when this returns, and is away for a moment when a pod goes.
        """
        local = free_port()
        loop = f"while :; do kubectl -n {self.namespace} port-forward {what} {local}:{port}; sleep 0.2; done"
        self._forwards.append(
            subprocess.Popen(
                ["sh", "-c", loop], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
            )
        )
        wait_until(lambda: _accepts(local), f"a port leads to {what}", show=self.state)
        return local

    def remove(self) -> None:
        """All of it, with its namespaces."""
        for process in self._forwards:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()
        place = ["-n", self.namespace, "--kubeconfig", os.environ["KUBECONFIG"]]
        subprocess.run([self.helm, "uninstall", NAME, *place], capture_output=True, check=False)
        self.cluster.run("delete", "namespace", self.namespace, self.workers, "--wait=false", check=False)


@contextlib.contextmanager
def release(
    cluster: Cluster,
    helm: str,
    *,
    name: str = "chart",
    before: Callable[[str], None] = lambda _: None,
    **values: Any,
) -> Iterator[Release]:
    """An installation of its own, ready; removed afterwards.

    Args:
        name: Begins its namespaces' names.
        before: Makes what it needs in its namespace.
    """
    made = Release(cluster, helm, fresh(name), merged(dict(VALUES), own_values()))
    try:
        before(made.namespace)
        made.apply(**values)
        yield made
    finally:
        made.remove()


def own_values() -> dict[str, Any]:
    """What $TIDEMILL_TEST_VALUES says of a cluster that is not the testbed's."""
    path = os.environ.get("TIDEMILL_TEST_VALUES")
    return dict(yaml.safe_load(Path(path).read_text()) or {}) if path else {}


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Values over values, as Helm does it."""
    found = dict(base)
    for name, value in more.items():
        there = found.get(name)
        found[name] = merged(there, value) if isinstance(there, Mapping) and isinstance(value, Mapping) else value
    return found


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def rendered(helm: str, *options: str, **values: Any) -> list[dict[str, Any]]:
    """The objects that the chart makes of values, without a cluster."""
    command = [helm, "template", NAME, str(CHART), "-n", "place", "--kube-version", "1.34.0", *options, "-f", "-"]
    done = subprocess.run(command, input=json.dumps(values), capture_output=True, check=False, text=True)
    if done.returncode != 0:
        raise ValueError(done.stderr)
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def wait_until(
    condition: Callable[[], Any], what: str, *, timeout: float = 120, show: Callable[[], str] = lambda: ""
) -> Any:
    """Return when it holds, with what it gave."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:.0f} s: {what} {show()}"
        time.sleep(0.3)
    return found
