"""What the process reads and how it ends."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tidemill_common.errors import InvalidInputError, UnavailableError
from tidemill_storage_bridge.__main__ import exit_code, main
from tidemill_storage_bridge.settings import Role, Settings


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_BRIDGE_SECRETS_DIR", "/secrets")
    monkeypatch.setenv("TIDEMILL_BRIDGE_SEAWEEDFS__FILER_GRPC", "filer:18888")
    monkeypatch.setenv("TIDEMILL_BRIDGE_RECONCILE_EVERY", "PT15M")
    monkeypatch.setenv("TIDEMILL_BRIDGE_ROLES", '["routing"]')
    settings = Settings()
    assert settings.seaweedfs is not None
    assert settings.seaweedfs.provider == "minio.default"
    assert settings.reconcile_every == timedelta(minutes=15)
    assert settings.roles == {Role.ROUTING}


def test_a_wrong_setting_stops_the_start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TIDEMILL_BRIDGE_SECRETS_DIR", "/secrets")
    monkeypatch.setenv("TIDEMILL_BRIDGE_RECONCILE_EVERY", "PT0S")
    assert main() == 78
    assert "reconcile_every" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnavailableError("no bus"), 75),
        (InvalidInputError("tokens file"), 78),
        (ExceptionGroup("", [UnavailableError("bus closed")]), 75),
        (ExceptionGroup("", [UnavailableError("bus closed"), ValueError("bug")]), 70),
    ],
)
def test_the_exit_code_says_whom_to_ask(error: Exception, code: int) -> None:
    assert exit_code(error) == code
