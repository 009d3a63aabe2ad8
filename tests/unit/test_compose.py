"""What docker-compose.yml hands to the components is what they read: settings that do not exist stop a start."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

import tidemill_gateway.settings
import tidemill_scheduler.settings
import tidemill_storage_bridge.settings
from tidemill_common.secrets import S3Credentials, SecretRecord

ROOT = Path(__file__).parents[2]
SETTINGS: dict[str, type[BaseSettings]] = {
    "gateway": tidemill_gateway.settings.Settings,
    "storage-bridge": tidemill_storage_bridge.settings.Settings,
    "scheduler": tidemill_scheduler.settings.Settings,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What deploy/compose/secrets.sh makes, in a copy of the repository's shape."""
    root = tmp_path_factory.mktemp("compose")
    (root / "deploy" / "compose").mkdir(parents=True)
    script = shutil.copy(ROOT / "deploy" / "compose" / "secrets.sh", root / "deploy" / "compose")
    without_docker = {**os.environ, "DOCKER_HOST": "unix:///nowhere"}  # it would be asked to change owners
    subprocess.run(["sh", script], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=without_docker)
    return root / ".tidemill" / "compose"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file."""
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return parsed


@pytest.mark.parametrize("component", SETTINGS)
def test_a_components_environment_is_valid(made: Path, component: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in (made / f"{component}.env").read_text().splitlines():
        monkeypatch.setenv(*line.split("=", 1))
    settings = SETTINGS[component]()
    assert settings.model_dump()["bus"]["url"] == "nats://nats:4222"


def test_every_file_that_is_mounted_is_made(made: Path, compose: dict[str, Any]) -> None:
    mounts = [volume for service in compose["services"].values() for volume in service.get("volumes", ())]
    names = [mount.split(":")[0].removeprefix("./.tidemill/compose/") for mount in mounts if mount.startswith("./")]
    names += [file for service in compose["services"].values() for file in service.get("env_file", ())]
    assert len(names) >= 6
    missing = [name for name in names if not (made / name.removeprefix(".tidemill/compose/")).exists()]
    assert missing == []


@pytest.mark.parametrize("component", SETTINGS)
def test_a_component_can_neither_change_its_image_nor_gain_privileges(compose: dict[str, Any], component: str) -> None:
    service = compose["services"][component]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_each_service_says_when_it_is_healthy_and_comes_back(compose: dict[str, Any]) -> None:
    assert {name for name, service in compose["services"].items() if "healthcheck" not in service} == set()
    assert {service["restart"] for service in compose["services"].values()} == {"unless-stopped"}


def test_every_image_and_every_port_can_be_chosen(compose: dict[str, Any]) -> None:
    images = [service["image"] for service in compose["services"].values()]
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert [image for image in images if not image.startswith("${")] == []
    assert [port for port in ports if not port.startswith("127.0.0.1:${")] == []


def test_nobody_else_can_read_the_secrets_and_they_are_made_once(made: Path) -> None:
    secrets = [path for path in made.rglob("*") if path.is_file()]
    assert [path for path in secrets if path.stat().st_mode & 0o077] == []
    record = SecretRecord.model_validate_json((made / "secrets" / "platform.json").read_bytes())
    assert S3Credentials.model_validate(record.providers["minio.default"]).secret_key
    before = {path: path.read_bytes() for path in secrets}
    subprocess.run(["sh", str(made.parents[1] / "deploy" / "compose" / "secrets.sh")], check=True)
    assert {path: path.read_bytes() for path in secrets} == before
