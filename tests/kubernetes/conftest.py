"""A cluster for the tests of this folder: that of $KUBECONFIG, which `make test-kubernetes` sets or makes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes.kubectl import Cluster
from tests.kubernetes.release import Release, release
from tests.servers import missing

HELM_VALUES = Path(__file__).parent / "values"


@pytest.fixture(scope="session", autouse=True)
def _needs_a_cluster() -> None:
    if not os.environ.get("KUBECONFIG"):
        missing("a cluster ($KUBECONFIG; `make test-kubernetes` makes one)")


@pytest.fixture(scope="session")
def kubernetes() -> Cluster:
    """The cluster."""
    if shutil.which("kubectl") is None:
        missing("kubectl")
    return Cluster()


@pytest.fixture(scope="session")
def helm() -> str:
    """The helm command."""
    beside = Path(__file__).parents[2] / ".cache" / "bin" / "helm"
    found = shutil.which("helm") or (str(beside) if beside.exists() else None)
    if found is None:
        missing("helm")
    return str(found)


@pytest.fixture(scope="module")
def platform(kubernetes: Cluster, helm: str) -> Iterator[Release]:
    """The chart, installed and ready; removed with the module."""
    with release(kubernetes, helm) as installed:
        yield installed
