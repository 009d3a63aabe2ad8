"""Kueue as a process of this machine, for a cluster that it reaches: queues that admit Jobs.

Built by tests/testbed/kubernetes/addons.sh. It wants certificates at fixed places, so it runs in a folder as its root;
its web hooks are not registered. What it adds to the cluster is removed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.kubernetes.addons import CACHE, CRDS, definitions, process, program, stays
from tests.kubernetes.waiting import until
from tidemill.platform.servers import free_port
from tidemill_scheduler.launchers.kubernetes.api import KubernetesApi

GROUP: Final = "/apis/kueue.x-k8s.io/v1beta1"
_CERTIFICATES: Final = ("etc/kueue/metrics/certs", "tmp/k8s-webhook-server/serving-certs")


@asynccontextmanager
async def kueue(api: KubernetesApi, kubeconfig: Path, namespace: str, directory: Path) -> AsyncIterator[None]:
    """Kueue with batch Jobs; what a namespace has of it is gone when this ends."""
    if await stays(api, f"{CRDS}/clusterqueues.kueue.x-k8s.io"):
        pytest.skip("the cluster has a Kueue of its own")
    root = _root(kubeconfig, directory / "kueue")
    command = ["chroot", str(root), "/kueue", "--config=/config.yaml"]
    async with definitions(api, CACHE / "crds" / "kueue"):
        with process(command, directory / "kueue.log", {"KUBECONFIG": "/kubeconfig", "HOME": "/"}):
            try:
                yield
            finally:
                await _clear(api, namespace)  # its finalizers are its own to take away


async def apply_all(api: KubernetesApi, text: str) -> None:
    """Objects without a namespace, as `kubectl apply` would make them."""
    for item in yaml.safe_load_all(text):
        plural = f"{item['kind'].lower()}s"
        await api.apply(f"/apis/{item['apiVersion']}/{plural}/{item['metadata']['name']}", item, manager="test")


def _root(kubeconfig: Path, root: Path) -> Path:
    """All that it reads."""
    binary = program("kueue")
    root.mkdir()
    shutil.copy(binary, root / "kueue")
    shutil.copy(kubeconfig, root / "kubeconfig")
    (root / "config.yaml").write_text(yaml.safe_dump(_configuration()))
    for place in _CERTIFICATES:
        (root / place).mkdir(parents=True)
        _certificate(root / place)
    return root


def _configuration() -> dict[str, Any]:
    return {
        "apiVersion": "config.kueue.x-k8s.io/v1beta1",
        "kind": "Configuration",
        "health": {"healthProbeBindAddress": f"127.0.0.1:{free_port()}"},
        "metrics": {"bindAddress": "0"},
        "webhook": {"host": "127.0.0.1", "port": free_port()},
        "leaderElection": {"leaderElect": False},
        "internalCertManagement": {"enable": False},
        "integrations": {"frameworks": ["batch/job"]},
        "featureGates": {"VisibilityOnDemand": False},
    }


def _certificate(place: Path) -> None:
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=kueue"]
    files = ["-keyout", str(place / "tls.key"), "-out", str(place / "tls.crt")]
    subprocess.run([*request, *files], check=True, capture_output=True, env={**os.environ})


async def _clear(api: KubernetesApi, namespace: str) -> None:
    """Jobs and their Workloads first, then queues; waits until Kueue has let go of them."""
    workloads = f"{GROUP}/namespaces/{namespace}/workloads"
    for path in (
        f"/apis/batch/v1/namespaces/{namespace}/jobs",
        workloads,
        f"{GROUP}/namespaces/{namespace}/localqueues",
    ):
        for item in (await api.get(path))["items"]:
            await api.delete(f"{path}/{item['metadata']['name']}", propagationPolicy="Background")
    await _gone(api, workloads)
    for path in (f"{GROUP}/clusterqueues", f"{GROUP}/resourceflavors"):
        for item in (await api.get(path))["items"]:
            await api.delete(f"{path}/{item['metadata']['name']}")
        await _gone(api, path)


async def _gone(api: KubernetesApi, path: str) -> None:
    async def is_empty() -> bool:
        return not (await api.get(path))["items"]

    await until(is_empty, f"nothing is left at {path}", seconds=60)
