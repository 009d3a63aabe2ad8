"""Files with Workers' identities: private, renewed at half of their time, and gone with the last Worker."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tidemill_common.bus.nats.credentials import Credentials
from tidemill_common.bus.nats.issuing import IssuerFile, WorkerIssuer
from tidemill_common.bus.nats.nkeys import Key, Kind
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.errors import UnavailableError
from tidemill_common.settings import BusSettings
from tidemill_scheduler.identities import BusIdentity, IdentityFiles, SignedIdentities, identities_of
from tidemill_scheduler.launchers.environment import CREDENTIALS_FILE, bus_environment
from tidemill_scheduler.settings import Settings, WorkerSettings

BLUR, SHARPEN = ServiceName("blur"), ServiceName("sharpen")
FILE = IssuerFile(account=Key.generate(Kind.ACCOUNT).public, seed=Key.generate(Kind.ACCOUNT).seed)
HOUR = timedelta(hours=1)


def files(directory: Path, lifetime: timedelta = HOUR) -> IdentityFiles:
    return IdentityFiles(SignedIdentities(WorkerIssuer(FILE, shards=4), lifetime), directory / "identities")


def test_an_identity_is_renewed_at_half_of_its_time() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    identity = SignedIdentities(WorkerIssuer(FILE, shards=4), HOUR, lambda: now).creds_for(BLUR)
    assert (identity.issued_at, identity.renew_at, identity.expires_at) == (now, now + HOUR / 2, now + HOUR)
    assert Credentials.parse(identity.text).expires_at == identity.expires_at


def test_an_identity_does_not_show_its_key() -> None:
    now = datetime.now(UTC)
    assert "secret" not in repr(BusIdentity(text="secret", issued_at=now, expires_at=now))


def test_only_this_user_can_read_a_file(tmp_path: Path) -> None:
    path = files(tmp_path).provide(BLUR)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert Credentials.parse(path.read_text()).inbox_prefix == "_INBOX.worker.blur"


def test_a_file_that_is_good_for_long_is_left_alone(tmp_path: Path) -> None:
    kept = files(tmp_path)
    before = kept.provide(BLUR).read_text()
    kept.renew([BLUR])
    assert kept.provide(BLUR).read_text() == before


def test_a_file_is_written_anew_when_half_of_its_time_is_over(tmp_path: Path) -> None:
    kept = files(tmp_path, timedelta())
    before = kept.provide(BLUR).read_text()
    kept.renew([BLUR])
    assert kept.provide(BLUR).read_text() != before


def test_a_file_that_somebody_removed_comes_back(tmp_path: Path) -> None:
    kept = files(tmp_path)
    kept.provide(BLUR).unlink()
    kept.renew([BLUR])
    assert kept.path_of(BLUR).exists()


def test_files_of_services_without_workers_go(tmp_path: Path) -> None:
    kept = files(tmp_path)
    for service in (BLUR, SHARPEN):
        kept.provide(service)
    kept.renew([SHARPEN])
    assert (kept.path_of(BLUR).exists(), kept.path_of(SHARPEN).exists()) == (False, True)


def test_another_scheduler_process_renews_what_it_finds(tmp_path: Path) -> None:
    """It cannot know how long the file holds, so it writes another."""
    before = files(tmp_path).provide(BLUR).read_text()
    after = files(tmp_path)
    after.renew([BLUR])
    assert after.path_of(BLUR).read_text() != before


def test_without_a_key_workers_share_an_identity(tmp_path: Path) -> None:
    assert identities_of(Settings()) is None
    bus = BusSettings(user="scheduler", password_file=tmp_path / "own")
    worker = WorkerSettings(bus_user="worker", bus_password_file=tmp_path / "workers")
    environment = bus_environment(bus, worker, tmp_path)
    assert environment["TIDEMILL_SUPERVISOR_BUS__USER"] == "worker"
    assert environment["TIDEMILL_SUPERVISOR_BUS__PASSWORD_FILE"] == str(tmp_path / "workers")


@pytest.mark.parametrize("own", [{"credentials_file": Path("own")}, {"user": "me", "password": "own"}])
def test_with_a_key_workers_never_get_the_schedulers_identity(tmp_path: Path, own: dict[str, object]) -> None:
    worker = WorkerSettings(identity_key_file=tmp_path / "key")
    environment = bus_environment(BusSettings.model_validate(own), worker, tmp_path)
    assert not [value for value in environment.values() if "own" in value or value == "me"]
    assert CREDENTIALS_FILE not in environment


def test_credentials_are_shared_as_a_file(tmp_path: Path) -> None:
    environment = bus_environment(BusSettings(credentials_file=tmp_path / "x.creds"), WorkerSettings(), tmp_path)
    assert environment[CREDENTIALS_FILE] == str(tmp_path / "x.creds")


def test_a_key_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="gone"):
        identities_of(Settings(worker=WorkerSettings(identity_key_file=tmp_path / "gone")))
