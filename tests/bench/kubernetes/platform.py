"""The chart installed for benchmarks, reached without `kubectl port-forward` where this machine is the node."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.kubernetes.kubectl import Cluster, fresh
from tests.kubernetes.release import NAME, VALUES, Release, merged, own_values
from tests.scenarios import Target

USER_IMAGE: Final = os.environ.get("TIDEMILL_BENCH_USER_IMAGE", "localhost/testbed/python:3.11")
"""With a `date` that knows nanoseconds."""


def helm() -> str:
    """The helm command."""
    beside = Path(__file__).parents[3] / ".cache" / "bin" / "helm"
    return shutil.which("helm") or str(beside)


@contextlib.contextmanager
def installed(**values: Any) -> Iterator[tuple[Release, Target]]:
    """A release of its own, and the way to it."""
    made = Release(Cluster(), helm(), fresh("bench"), merged(dict(VALUES), own_values()))
    try:
        made.apply(**values)
        yield made, target_of(made)
    finally:
        made.remove()


def target_of(made: Release) -> Target:
    """The way to a release."""
    keys = f"{NAME}-credentials"
    return Target(
        endpoint=_address(made, f"{NAME}-gateway", 80),
        username="oscar",
        password=made.secret(keys, "admin-password"),
        s3_endpoint=_address(made, f"{NAME}-store", 8333),
        s3_access_key=made.secret(keys, "s3-access-key"),
        s3_secret_key=made.secret(keys, "s3-secret-key"),
        image=USER_IMAGE,
    )


def _address(made: Release, service: str, port: int) -> str:
    """Of a Kubernetes Service: its own on a node, else that of a forwarded port."""
    own = made.cluster.get("service", service, "-n", made.namespace)["spec"]["clusterIP"]
    with contextlib.suppress(OSError), socket.create_connection((own, port), timeout=2):
        return f"http://{own}:{port}"
    return f"http://127.0.0.1:{made.forward(f'service/{service}', port)}"
