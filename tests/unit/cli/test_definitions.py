"""What `apply` says before it acts, and how it shows a mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tidemill.definitions import Action, compare, describe, show_mistake
from tidemill_common.fdl import FdlError, load_fdl, parse_service, service_json
from tidemill_common.secrets import S3Credentials

STORE = S3Credentials(endpoint="http://127.0.0.1:9000", access_key="a", secret_key="s")


def definition(**fields: Any) -> dict[str, Any]:
    return {
        "name": "blur",
        "image": "acme/blur",
        "script": "#!/bin/sh\necho one\n",
        "input": [{"storage_provider": "minio.default", "path": "blur/in"}],
        **fields,
    }


def shown(document: dict[str, Any]) -> dict[str, Any]:
    """What a server shows of a definition it was given."""
    parsed = parse_service(document, owner="cluster_admin")
    return service_json(parsed.service, token="t" * 64, store=STORE, providers=parsed.secrets.providers)


def test_a_service_that_is_not_there_is_created() -> None:
    assert compare(definition(), None).action is Action.CREATE


def test_the_same_definition_changes_nothing() -> None:
    document = definition(retry={"attempts": 5}, timeout="60s", cpu="0.5")
    assert compare(document, shown(document)).action is Action.UNCHANGED


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        ({"memory": "256Mi"}, {"memory": "1Gi"}, "memory"),
        ({}, {"timeout": "10s"}, "timeout"),
        ({}, {"environment": {"variables": {"K": "v"}}}, "variables.K"),
        ({}, {"retry": {"attempts": 9}}, "retry.attempts"),
        ({"priority": 3}, {}, "priority"),
    ],
)
def test_a_changed_field_is_named(before: dict[str, Any], after: dict[str, Any], field: str) -> None:
    change = compare(definition(**after), shown(definition(**before)))
    assert change.action is Action.UPDATE
    assert set(change.fields) == {field}


def test_a_changed_script_shows_the_lines() -> None:
    text = "\n".join(describe(compare(definition(script="#!/bin/sh\necho two\n"), shown(definition()))))
    assert "-echo one" in text
    assert "+echo two" in text


def test_values_of_secrets_are_never_shown() -> None:
    old = shown(definition(environment={"secrets": {"KEY": "old-value"}}))
    change = compare(definition(environment={"secrets": {"KEY": "new-value"}}), old)
    assert change.action is Action.UPDATE
    assert "value" not in "\n".join(describe(change))


def test_a_secret_sent_blank_keeps_its_value_and_changes_nothing() -> None:
    old = shown(definition(environment={"secrets": {"KEY": "value"}}))
    assert compare(definition(environment={"secrets": {"KEY": ""}}), old).action is Action.UNCHANGED


def test_a_mistake_points_at_its_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "service.yaml"
    file.write_text(
        "functions:\n  oscar:\n  - lab:\n      name: blur\n      image: acme/blur\n      script: none.sh\n", "utf-8"
    )
    with pytest.raises(FdlError) as caught:
        load_fdl(file)
    message, source, mark = show_mistake(caught.value, file.read_text()).splitlines()
    assert message.startswith(f"{file}:6:15: ")
    assert source == "    6 |       script: none.sh"
    assert mark.index("^") == source.index("none.sh")
