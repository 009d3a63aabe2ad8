"""What docker-compose.yml hands to the components is what they read, and made once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings

import tidemill_gateway.settings
import tidemill_scheduler.settings
import tidemill_storage_bridge.settings
from tidemill.errors import CliError
from tidemill.platform import compose_files
from tidemill.platform.compose_files import KEYS, PASSWORDS_FILE, RECORDS, main, prepare
from tidemill.platform.keys import KEYS_FILE, make_keys
from tidemill_common.bus import preparing
from tidemill_common.secrets import S3Credentials, SecretRecord

ROOT = Path(__file__).parents[2]
EARLIER = ROOT / "tests" / "testbed" / "compose-passwords"
COMPONENTS: dict[str, Callable[[], BaseSettings]] = {
    "gateway": tidemill_gateway.settings.Settings,
    "storage-bridge": tidemill_storage_bridge.settings.Settings,
    "scheduler": tidemill_scheduler.settings.Settings,
}
SETTINGS: dict[str, Callable[[], BaseSettings]] = {**COMPONENTS, "streams": preparing.Settings}
ONE_SHOT = {"prepare", "streams"}


@pytest.fixture(autouse=True)
def owners(monkeypatch: pytest.MonkeyPatch) -> dict[Path, int]:
    """Who would own what; whoever runs tests need not be root, and has no bus beside him."""
    owned: dict[Path, int] = {}
    monkeypatch.setattr(os, "chown", lambda path, user, _: owned.__setitem__(Path(path), user))
    monkeypatch.setattr(compose_files, "_answers", lambda _: False)
    return owned


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """What `prepare` makes at the first start."""
    directory = tmp_path / "prepared"
    directory.mkdir()
    prepare(directory, tmp_path / "nothing")
    return directory


@pytest.fixture(scope="session")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script of earlier versions made."""
    root = tmp_path_factory.mktemp("earlier")
    shutil.copytree(EARLIER, root, dirs_exist_ok=True)
    without_docker = {**os.environ, "DOCKER_HOST": "unix:///nowhere"}  # it would be asked to change owners
    script = root / "deploy" / "compose" / "secrets.sh"
    subprocess.run(["sh", script], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=without_docker)
    directory = root / ".tidemill" / "compose"
    (directory / "secrets" / "blur.json").write_text('{"secrets": {"token": "old"}}')
    (directory / "secrets" / "events-tokens.json").write_text('{"first": "webhook", "second": "cluster"}')
    return directory


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file."""
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return parsed


def contents(directory: Path) -> Mapping[Path, bytes]:
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def streams_of(directory: Path, account: str) -> Path:
    streams = directory / "bus" / "jetstream" / "jetstream" / account / "streams"
    (streams / "EVENTS").mkdir(parents=True)
    return streams


@pytest.mark.parametrize("service", SETTINGS)
def test_a_components_environment_is_valid(
    compose: dict[str, Any], service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in compose["services"][service]["environment"].items():
        monkeypatch.setenv(name, value)
    settings = SETTINGS[service]()
    assert settings.model_dump()["bus"]["url"] == "nats://nats:4222"
    assert settings.model_dump()["bus"]["password_file"] is None


def test_every_file_that_is_named_is_made_in_the_volume_that_is_mounted(made: Path, compose: dict[str, Any]) -> None:
    prepared = _mounts(compose["services"]["prepare"])
    named = []
    for service in compose["services"].values():
        texts = [str(text) for text in (*service.get("environment", {}).values(), *(service.get("command") or ()))]
        files = [text.split("=")[-1] for text in texts if "/run/tidemill/" in text]
        volume = next((name for name, path in _mounts(service).items() if path == "/run/tidemill"), None)
        named += [Path(prepared[volume or ""]) / Path(file).name for file in files]
    assert len(named) >= 11
    assert [path for path in named if not (made / path.relative_to("/prepared")).is_file()] == []


def test_no_container_sees_the_keys_or_the_files_of_another(compose: dict[str, Any]) -> None:
    seen = {
        name: {volume for volume in _mounts(service) if volume == KEYS or volume.endswith("-files")}
        for name, service in compose["services"].items()
        if name != "prepare"
    }
    assert seen == {name: {f"{name}-files"} for name in seen}


def _mounts(service: Mapping[str, Any]) -> dict[str, str]:
    return dict(volume.split(":")[:2] for volume in service.get("volumes", ()))


@pytest.mark.parametrize("component", [*COMPONENTS, "streams"])
def test_a_component_can_neither_change_its_image_nor_gain_privileges(compose: dict[str, Any], component: str) -> None:
    service = compose["services"][component]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_each_service_says_when_it_is_healthy_and_comes_back(compose: dict[str, Any]) -> None:
    lasting = {name: service for name, service in compose["services"].items() if name not in ONE_SHOT}
    assert {name for name, service in lasting.items() if "healthcheck" not in service} == set()
    assert {service["restart"] for service in lasting.values()} == {"unless-stopped"}
    assert {compose["services"][name]["restart"] for name in ONE_SHOT} == {"no"}


def test_every_image_and_every_port_can_be_chosen(compose: dict[str, Any]) -> None:
    images = [service["image"] for service in compose["services"].values()]
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert [image for image in images if not image.startswith("${")] == []
    assert [port for port in ports if not port.startswith("127.0.0.1:${")] == []


def test_only_who_reads_a_file_can(made: Path, owners: dict[Path, int]) -> None:
    paths = [made / volume for volume in compose_files._OWNERS]
    paths += [path for path in made.rglob("*") if path.is_file() and path.name != "done"]
    assert [path for path in paths if path.stat().st_mode & 0o077] == []
    assert {path.name for path, owner in owners.items() if owner and path.is_dir()} == {
        *COMPONENTS,
        "streams",
        RECORDS,
    }


def test_all_passwords_of_a_container_are_those_of_its_server(made: Path) -> None:
    record = SecretRecord.model_validate_json((made / RECORDS / "platform.json").read_bytes())
    (identity,) = json.loads((made / "store" / "s3.json").read_text())["identities"]
    ours = S3Credentials.model_validate(record.providers["minio.default"])
    assert identity["credentials"] == [{"accessKey": ours.access_key, "secretKey": ours.secret_key}]
    password = (made / "postgresql" / "password").read_text()
    assert (made / "gateway" / "pgpass").read_text() == f"postgresql:5432:tidemill:tidemill:{password}\n"


def test_another_start_changes_nothing_and_leaves_what_an_operator_wrote(made: Path, tmp_path: Path) -> None:
    (made / "storage-bridge" / "events-tokens.json").write_text('{"another": "webhook"}')
    (made / RECORDS / "blur.json").write_text("{}")
    before = contents(made)
    inodes = {path: path.stat().st_ino for path in (made / "scheduler").iterdir()}
    prepare(made, tmp_path / "nothing")
    assert contents(made) == before
    assert {path: path.stat().st_ino for path in (made / "scheduler").iterdir()} == inodes


def test_another_version_gives_the_same_keys_other_rights(made: Path, tmp_path: Path) -> None:
    (made / "nats" / "bus-server.conf").write_text("what an earlier version allowed")
    keys = (made / KEYS / KEYS_FILE).read_bytes()
    prepare(made, tmp_path / "nothing")
    assert "resolver_preload" in (made / "nats" / "bus-server.conf").read_text()
    assert (made / KEYS / KEYS_FILE).read_bytes() == keys


def test_a_start_that_was_interrupted_goes_on_with_the_same_passwords(made: Path, tmp_path: Path) -> None:
    password = (made / "postgresql" / "password").read_text()
    (made / KEYS / "done").unlink()
    (made / "gateway" / "pgpass").unlink()
    prepare(made, tmp_path / "nothing")
    assert password in (made / "gateway" / "pgpass").read_text()


def test_an_earlier_versions_passwords_records_and_streams_are_taken_over(tmp_path: Path, earlier: Path) -> None:
    streams = streams_of(tmp_path, "$G")
    before = contents(earlier)
    prepare(tmp_path, earlier)
    assert (tmp_path / "postgresql" / "password").read_bytes() == before[Path("postgresql")]
    assert (tmp_path / "store" / "s3.json").read_bytes() == before[Path("s3.json")]
    assert (tmp_path / "gateway" / "admin-password").read_bytes() == before[Path("secrets/admin-password")]
    for volume, name in (("storage-bridge", "events-tokens.json"), (RECORDS, "platform.json"), (RECORDS, "blur.json")):
        assert (tmp_path / volume / name).read_bytes() == before[Path("secrets") / name]
    account = make_keys(tmp_path / KEYS).account_id
    assert not streams.exists()
    assert (streams.parents[1] / account / "streams" / "EVENTS").is_dir()
    assert contents(earlier) == before


def test_what_was_removed_since_is_not_taken_over_again(tmp_path: Path, earlier: Path) -> None:
    prepare(tmp_path, earlier)
    (tmp_path / RECORDS / "blur.json").unlink()
    prepare(tmp_path, earlier)
    assert not (tmp_path / RECORDS / "blur.json").exists()


def test_streams_are_not_moved_below_a_server_that_runs(
    tmp_path: Path, earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = streams_of(tmp_path, "$G")
    monkeypatch.setattr(compose_files, "_answers", lambda _: True)
    with pytest.raises(CliError, match="stop it first"):
        prepare(tmp_path, earlier)
    assert streams.exists()


def test_data_whose_passwords_are_lost_gets_no_new_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    streams_of(tmp_path, "$G")
    assert main([str(tmp_path), str(tmp_path / "nothing")]) == 1
    assert "put back .tidemill/compose" in capsys.readouterr().err
    assert not (tmp_path / KEYS / PASSWORDS_FILE).exists()


def test_an_earlier_version_that_is_not_whole_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "done").touch()
    with pytest.raises(CliError, match="is damaged"):
        prepare(tmp_path, tmp_path / "earlier")
    assert not (tmp_path / KEYS / PASSWORDS_FILE).exists()
