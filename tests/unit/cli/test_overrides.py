"""What an operator changes holds for every process, and at the next start; a mistake stops the first."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tidemill.errors import CliError
from tidemill.platform.components import bridge_environment, prefix_of
from tidemill.platform.installation import Installation
from tidemill.platform.overrides import component_overrides
from tidemill_common.settings import Durability


def test_a_changed_lease_reaches_every_process_and_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMILL_BUS_LEASE", "PT5S")
    first = Installation.open(tmp_path, port=0)
    monkeypatch.delenv("TIDEMILL_BUS_LEASE")
    for installation in (first, Installation.open(tmp_path, port=0), Installation.existing(tmp_path)):
        assert bridge_environment(installation)["TIDEMILL_BRIDGE_BUS__LEASE"] == "PT5S"
        assert installation.bus_settings("worker").lease == timedelta(seconds=5)


def test_durability_power_makes_the_bus_write_before_it_acknowledges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not Installation.open(tmp_path, port=0).nats.sync_always
    monkeypatch.setenv("TIDEMILL_BUS_DURABILITY", "power")
    powered = Installation.open(tmp_path, port=0)
    assert powered.bus_settings("gateway").durability is Durability.POWER
    assert powered.nats.sync_always


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TIDEMILL_BUS_LEASE", "soon", "TIDEMILL_BUS_LEASE"),
        ("TIDEMILL_BUS_LAESE", "PT5S", "TIDEMILL_BUS_LAESE"),
        ("TIDEMILL_BUS_URL", "nats://elsewhere:4222", "up` decides"),
    ],
)
def test_a_mistake_says_which_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(CliError, match=said):
        Installation.open(tmp_path, port=0)


def test_a_component_gets_its_own_variables_only() -> None:
    environment = {"TIDEMILL_GATEWAY_PORT": "1", "TIDEMILL_BRIDGE_PORT": "2", "PATH": "/bin"}
    assert component_overrides(prefix_of("tidemill_storage_bridge"), environment) == {"TIDEMILL_BRIDGE_PORT": "2"}
