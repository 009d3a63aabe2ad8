"""Reading what OSCAR's clients post."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.oscar_cli import CLI_BODY
from tidemill_common.contracts.service import Batch, Expose, RetryPolicy, Service, StorageIO
from tidemill_common.errors import InvalidInputError
from tidemill_common.fdl import FieldError, parse_service

SMALLEST = {"name": "edge-blur", "image": "docker.io/acme/blur:1", "script": "#!/bin/sh\ntrue\n"}


def parse(**fields: Any) -> Service:
    """The Service of the smallest document with these fields."""
    return parse_service(SMALLEST | fields, owner="cluster_admin").service


def refusal(**fields: Any) -> str:
    """What is said of the smallest document with these fields."""
    with pytest.raises(FieldError) as caught:
        parse(**fields)
    return str(caught.value)


def test_the_body_of_oscars_cli_is_understood() -> None:
    parsed = parse_service(CLI_BODY, owner="cluster_admin")

    assert parsed.service == Service(
        name=parsed.service.name,
        image="docker.io/acme/blur:1",
        script="#!/bin/sh\ntrue\n",
        cluster_id="lab",
        cpu="0.5",
        memory="256Mi",
        input=(StorageIO(path="edge-blur/in"),),
        output=(StorageIO(path="edge-blur/out", suffix=(".png",)),),
        variables={"K": "v"},
        labels={
            "oscar_service": "edge-blur",
            "applicationId": "edge-blur",
            "queue": "root.oscar-queue.edge-blur",
            "oscar.grycap/user-service": "true",
            "owner_name": "oscar",
        },
    )
    assert parsed.secrets.environment == {}
    assert parsed.secrets.providers == {}


def test_the_form_of_the_dashboard_is_understood() -> None:
    service = parse(
        replicas=[],
        rescheduler_threshold="",
        image_rules=[],
        clusters={"id": {"endpoint": "", "auth_user": ""}},
        total_cpu="0",
        token="",
        cpu=1.0,
        volume_status={"enabled": False},
        environment={"variables": {"N": 3, "T": True, "F": 0.5, "Z": None}, "secrets": {}},
    )

    assert service.cpu == "1"
    assert service.variables == {"N": "3", "T": "true", "F": "0.5", "Z": ""}


def test_keys_match_in_any_case_and_keys_of_maps_keep_theirs() -> None:
    service = parse_service(
        {
            "NAME": "a",
            "Image": "i",
            "Script": "s",
            "ENVIRONMENT": {"VARIABLES": {"Ab": "1", "aB": "2"}},
            "Input": [{"Storage_Provider": "MinIO", "PATH": "a/in"}],
            "Labels": {"Team": "x"},
        },
        owner="u",
    ).service

    assert service.variables == {"Ab": "1", "aB": "2"}
    assert service.input == (StorageIO(path="a/in"),)
    assert service.labels["Team"] == "x"


def test_both_spellings_of_variables_count_together() -> None:
    assert parse(environment={"Variables": {"A": "1"}, "variables": {"B": "2"}}).variables == {"A": "1", "B": "2"}


def test_defaults_are_oscars() -> None:
    service = parse()

    assert (service.memory, service.cpu, service.log_level, service.visibility) == ("256Mi", "0.2", "INFO", "private")


@pytest.mark.parametrize(
    ("given", "level"), [("debug", "DEBUG"), ("Critical", "CRITICAL"), ("loud", "INFO"), ("", "INFO")]
)
def test_log_level_is_a_known_one_in_upper_case(given: str, level: str) -> None:
    assert parse(log_level=given).log_level == level


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("edge-blur/in", "edge-blur/in"),
        (" /bucket/in/ ", "bucket/in"),
        ("in", "edge-blur/in"),
        ("/in/", "edge-blur/in"),
        ("b//in", "b/in"),
        ("b/a b/c", "b/a b/c"),
    ],
)
def test_bucket_paths_are_normalised(given: str, path: str) -> None:
    assert parse(input=[{"path": given}]).input[0].path == path


def test_a_path_of_another_kind_needs_no_bucket() -> None:
    service = parse(
        input=[{"storage_provider": "WebDAV.dcache", "path": "/uploads/"}],
        storage_providers={"webdav": {"dcache": {"hostname": "dav.example.org", "login": "u", "password": "p"}}},
    )

    assert service.input == (StorageIO(storage_provider="webdav.dcache", path="uploads"),)


def test_secrets_go_to_the_secret_record_and_nowhere_else() -> None:
    parsed = parse_service(
        SMALLEST
        | {
            "environment": {"secrets": {"PASS": "hunter2", "AGE": 3}},
            "output": [{"storage_provider": "s3.archive.eu", "path": "acme/out"}],
            "storage_providers": {
                "S3": {"archive.eu": {"Access_Key": "AK", "secret_key": "SK-secret", "region": "eu-west-1"}},
                "minio": {"default": {"secret_key": "not-ours"}, "lab": {"verify": False}},
            },
        },
        owner="u",
    )

    assert parsed.service.secret_names == ("AGE", "PASS")
    assert parsed.secrets.environment == {"PASS": "hunter2", "AGE": "3"}
    assert parsed.secrets.providers == {
        "s3.archive.eu": {"access_key": "AK", "secret_key": "SK-secret", "region": "eu-west-1"},
        "minio.lab": {"verify": False},
    }
    body = parsed.service.encode()
    assert b"hunter2" not in body
    assert b"SK-secret" not in body
    assert "hunter2" not in repr(parsed)


@pytest.mark.parametrize(
    ("expose", "ports", "node_ports"),
    [
        ({"api_port": 8000, "nodePort": 0}, (8000,), ()),
        ({"api_port": [8000]}, (8000,), ()),
        ({"api_port": [8000, 9000], "nodePort": [0, 30900]}, (8000, 9000), (0, 30900)),
        ({"api_port": 8000, "NodePort": 30800}, (8000,), (30800,)),
    ],
)
def test_ports_are_numbers_or_lists(
    expose: dict[str, Any], ports: tuple[int, ...], node_ports: tuple[int, ...]
) -> None:
    assert parse(expose=expose).expose == Expose(api_port=ports, node_port=node_ports)


@pytest.mark.parametrize("expose", [None, {}, {"nodePort": 0}, {"api_port": 0}, {"api_port": []}, {"min_scale": 1}])
def test_without_a_port_nothing_is_exposed(expose: dict[str, Any] | None) -> None:
    assert parse(expose=expose).expose is None


def test_labels_of_the_platform_win_over_the_users() -> None:
    labels = parse_service(
        SMALLEST | {"labels": {"oscar_service": "x", "n": 1}, "vo": "/vo.example eu:x/sub"},
        owner="0123@egi.eu",
        owner_name="Émile Zola",
    ).service.labels

    assert labels["oscar_service"] == "edge-blur"
    assert labels["n"] == "1"
    assert labels["owner_name"] == "Emile_Zola"
    assert labels["vo"] == "vo.example__eu___x--sub"


def test_our_own_fields_are_read() -> None:
    service = parse(
        timeout="5m",
        retry={"attempts": 5, "backoff": 1.5, "max_backoff": "PT1M", "final_exit_codes": 64},
        priority=-3,
        slots=4,
        reuse=1,
        batch={"size": 10, "wait": "500ms"},
        resident=True,
        schedule="*/5 * * * *",
        input=[{"path": "b/in", "suffix": [".csv"], "prefix": "x"}],
    )

    assert service.timeout == timedelta(minutes=5)
    assert service.retry == RetryPolicy(
        attempts=5, backoff=timedelta(seconds=1.5), max_backoff=timedelta(minutes=1), final_exit_codes=(64,)
    )
    assert (service.priority, service.slots, service.reuse, service.resident) == (-3, 4, 1, True)
    assert service.batch == Batch(size=10, wait=timedelta(milliseconds=500))
    assert service.schedule == "*/5 * * * *"
    assert service.input[0].suffix == (".csv",)
    assert service.input[0].prefix == ("x",)


def test_fields_that_are_not_acted_on_are_kept() -> None:
    federation = {"topology": "star", "members": [{"cluster_id": "backup"}]}

    assert parse(federation=federation, mount={"path": "", "storage_provider": ""}, volume=None).extra == {
        "federation": federation
    }


def test_blanks_in_allowed_users_are_removed() -> None:
    assert parse(allowed_users=[" a@egi ", "", " "]).allowed_users == ("a@egi",)


@pytest.mark.parametrize("name", ["", "-a", "a-", "a" * 40, "a.b", "a b", "é", "a/b", "a\n", "platform"])
def test_a_name_that_cannot_be_used_everywhere_is_refused(name: str) -> None:
    assert refusal(name=name).startswith("name: ")


@pytest.mark.parametrize("name", ["a", "A1", "a-b_c", "a" * 39, "0x"])
def test_a_good_name_is_taken(name: str) -> None:
    assert parse(name=name).name == name


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"image": None}, "image: is required"),
        ({"script": " "}, "script: is required"),
        ({"script": 3}, "script: must be text, not a number"),
        ({"enable_gpu": "yes"}, "enable_gpu: must be true or false, not text"),
        ({"memory": "lots"}, "memory: not a quantity"),
        ({"input": {"path": "x"}}, "input: must be a list, not a map"),
        ({"input": [{"path": "a/b"}, {"path": " / "}]}, "input[1].path: input path cannot be empty"),
        ({"output": [{}]}, "output[0].path: output path cannot be empty"),
        ({"output": [{"path": "a/../b"}]}, "output[0].path: must not contain `.` or `..`"),
        (
            {"input": [{"path": "a", "storage_provider": "ftp.x"}]},
            "input[0].storage_provider: unknown storage kind 'ftp'",
        ),
        (
            {"output": [{"path": "a", "storage_provider": "S3.x.y"}]},
            'output[0].storage_provider: the StorageProvider "s3.x.y" is not defined',
        ),
        ({"expose": {"api_port": [70000]}}, "expose.api_port[0]: must be between 0 and 65535"),
        ({"expose": {"api_port": [80, 81], "nodePort": 30080}}, "expose.nodePort: must have as many ports as api_port"),
        ({"timeout": "soon"}, "timeout: not a duration: 'soon'"),
        ({"timeout": 0}, "timeout: must be more than 0"),
        ({"retry": {"attempts": 0}}, "retry.attempts: must be between 1 and 100"),
        ({"slots": 1.5}, "slots: 1.5 is not a whole number"),
        ({"visibility": "secret"}, "visibility: must be one of private, restricted, public"),
        ({"environment": {"Variables": {"A": ["x"]}}}, "environment.Variables.A: must be text, not a list"),
        (
            {"environment": {"variables": {"A=B": "x"}}},
            "environment.variables: 'A=B' cannot be an environment variable",
        ),
        ({"image": "\ud800"}, "image: is not valid Unicode"),
        ({"synchronous": {"min_scale": -1}}, "synchronous.min_scale: must be at least 0"),
    ],
)
def test_an_error_says_what_is_wrong_and_where(fields: dict[str, Any], said: str) -> None:
    assert refusal(**fields).startswith(said)


@pytest.mark.parametrize("output", ["edge-blur/in", "edge-blur/in/deep", "in"])
def test_an_output_inside_its_own_input_is_refused(output: str) -> None:
    said = refusal(input=[{"path": "edge-blur/in"}], output=[{"path": "edge-blur/out"}, {"path": output}])

    assert said.startswith("output[1].path: ")
    assert "would start itself for ever" in said


@pytest.mark.parametrize("output", ["edge-blur/in2", "edge-blur", "other/in"])
def test_an_output_beside_its_input_is_taken(output: str) -> None:
    parse(input=[{"path": "edge-blur/in"}], output=[{"path": output}])


def test_the_same_path_on_another_provider_is_no_loop() -> None:
    parse(
        input=[{"path": "edge-blur/in"}],
        output=[{"path": "edge-blur/in", "storage_provider": "minio.other"}],
        storage_providers={"minio": {"other": {"endpoint": "https://x"}}},
    )


@pytest.mark.parametrize("document", [[], "text", 3])
def test_a_document_that_is_no_map_is_refused(document: Any) -> None:
    with pytest.raises(InvalidInputError, match="must be a map"):
        parse_service(document, owner="u")
