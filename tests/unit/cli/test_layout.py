"""The platform's directory: private, and the same after a restart."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tidemill.errors import CliError
from tidemill.platform.installation import Installation
from tidemill.platform.layout import Credentials, Layout, PortPicker, credentials_of, ports_of, read_model


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / "platform")
    made.make()
    return made


def all_free(_: int) -> bool:
    return True


def test_only_this_user_can_enter_and_read(tmp_path: Path) -> None:
    installation = Installation.open(tmp_path / "platform", port=0)
    root = installation.layout.root
    assert mode(root) == 0o700
    assert {mode(path) for path in root.rglob("*") if path.is_file()} == {0o600}


def test_credentials_are_made_once(layout: Layout) -> None:
    assert credentials_of(layout) == credentials_of(layout)


def test_every_identity_has_a_password_of_its_own() -> None:
    credentials = Credentials.generate()
    assert len(set(credentials.bus.values())) == len(credentials.bus)


def test_ports_are_kept(layout: Layout) -> None:
    first = ports_of(layout, gateway=None, picker=PortPicker(all_free))
    assert ports_of(layout, gateway=None, picker=PortPicker(all_free)) == first


def test_a_port_that_was_taken_meanwhile_is_replaced_alone(layout: Layout) -> None:
    first = ports_of(layout, gateway=None, picker=PortPicker(all_free))
    second = ports_of(layout, gateway=None, picker=PortPicker(lambda port: port != first.nats))
    assert second.nats != first.nats
    assert second.model_copy(update={"nats": first.nats}) == first


def test_no_port_is_given_twice(layout: Layout) -> None:
    ports = ports_of(layout, gateway=0, picker=PortPicker(all_free))
    single = [value for name, value in ports if name != "weed"]
    assert len({*single, *ports.weed}) == len(single) + len(ports.weed)


def test_a_port_that_was_asked_for_and_is_in_use_is_an_error(layout: Layout) -> None:
    with pytest.raises(CliError, match="8123 is in use"):
        ports_of(layout, gateway=8123, picker=PortPicker(lambda port: port != 8123))


def test_a_damaged_file_is_named_and_not_replaced(layout: Layout) -> None:
    layout.credentials.write_text("{")
    with pytest.raises(CliError, match=r"credentials\.json is damaged"):
        credentials_of(layout)
    assert layout.credentials.read_text() == "{"
    with pytest.raises(CliError):
        read_model(layout.credentials, Credentials)


def test_no_secret_is_in_the_environment_of_a_component(tmp_path: Path) -> None:
    from tidemill.platform.components import component_specs, server_specs

    installation = Installation.open(tmp_path / "platform", port=0)
    credentials = installation.credentials
    secrets = {credentials.password, credentials.s3_secret_key, credentials.events_token, *credentials.bus.values()}
    for spec in (*server_specs(installation), *component_specs(installation)):
        assert not [value for value in spec.environment.values() if any(secret in value for secret in secrets)]
        assert not [part for part in spec.command() if any(secret in part for secret in secrets)]


def test_stopping_in_order_takes_at_most_ten_seconds(tmp_path: Path) -> None:
    from tidemill.platform.components import component_specs, server_specs
    from tidemill.platform.up import STOP_ORDER, WORKERS_PATIENCE

    installation = Installation.open(tmp_path / "platform", port=0)
    specs = (*server_specs(installation), *component_specs(installation))
    budget = {spec.name: spec.stop_timeout.total_seconds() for spec in specs}
    assert sorted(name for names in STOP_ORDER for name in names) == sorted(budget)
    assert sum(max(budget[name] for name in names) for names in STOP_ORDER) + WORKERS_PATIENCE <= 10
