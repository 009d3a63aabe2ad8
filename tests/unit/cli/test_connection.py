"""Which platform is meant, and that no password goes to a place it does not belong to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.connection import Wishes, choose, find_directory, read_oscar_config
from tidemill.errors import CliError, Exit
from tidemill.platform.connection import Connection

LOCAL = Connection(endpoint="http://127.0.0.1:8080", username="oscar", password="local", s3_access_key="key")
LAB = Connection(endpoint="https://lab.example.org", username="ann", password="lab")
CLUSTERS = {"lab": LAB, "other": Connection(endpoint="https://other.example.org")}


def chosen(wishes: Wishes, *, local: Connection | None = LOCAL, default: str = "lab") -> Connection:
    return choose(wishes, local=local, clusters=CLUSTERS, default=default)


def test_the_local_platform_goes_before_the_default_cluster() -> None:
    assert chosen(Wishes()) == LOCAL
    assert chosen(Wishes(), local=None) == LAB


def test_a_named_cluster_goes_before_the_local_platform() -> None:
    assert chosen(Wishes(cluster="lab")) == LAB


def test_an_unknown_cluster_is_a_usage_error() -> None:
    with pytest.raises(CliError) as caught:
        chosen(Wishes(cluster="nowhere"))
    assert caught.value.code is Exit.USAGE


def test_no_platform_at_all_is_a_connection_error() -> None:
    with pytest.raises(CliError) as caught:
        chosen(Wishes(), local=None, default="")
    assert caught.value.code is Exit.CONNECTION


def test_flags_go_before_the_environment() -> None:
    environment = Wishes.of_environment({"TIDEMILL_USERNAME": "env", "TIDEMILL_PASSWORD": "env"})
    wishes = Wishes(username="flag").over(environment)
    assert (wishes.username, wishes.password) == ("flag", "env")
    assert chosen(wishes).username == "flag"


def test_an_endpoint_of_ones_own_gets_no_password_of_a_file() -> None:
    found = chosen(Wishes(endpoint="https://evil.example.org"))
    assert (found.username, found.password, found.s3_access_key) == ("", "", "")


def test_an_endpoint_flag_gets_no_password_of_the_environment_for_another_endpoint() -> None:
    environment = Wishes.of_environment({"TIDEMILL_ENDPOINT": "https://a.example.org", "TIDEMILL_PASSWORD": "secret"})
    assert chosen(Wishes(endpoint="https://b.example.org").over(environment)).password == ""


def test_the_endpoint_of_a_known_platform_brings_its_credentials() -> None:
    assert chosen(Wishes(endpoint="http://127.0.0.1:8080/")).password == "local"
    assert chosen(Wishes(endpoint="https://lab.example.org")).password == "lab"


def test_the_directory_is_found_from_below(tmp_path: Path) -> None:
    (tmp_path / ".tidemill").mkdir()
    (tmp_path / ".tidemill" / "connection.json").write_text("{}")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_directory(below) == tmp_path / ".tidemill"


def test_oscars_configuration_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "oscar:\n  lab:\n    endpoint: https://lab.example.org/\n    auth_user: ann\n    auth_password: pw\n"
        "    ssl_verify: false\n    memory: 256Mi\ndefault: lab\n"
    )
    clusters, default = read_oscar_config(file)
    assert default == "lab"
    assert clusters["lab"] == Connection(
        endpoint="https://lab.example.org", username="ann", password="pw", verify=False
    )


def test_without_oscars_file_there_are_no_clusters(tmp_path: Path) -> None:
    assert read_oscar_config(tmp_path / "none.yaml") == ({}, "")
