"""FDL files, and errors that point into them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tidemill_common.contracts.service import Synchronous
from tidemill_common.fdl import FdlError, load_fdl, parse_service

SIMPLE = """\
functions:
  oscar:
  - lab:
      name: edge-blur
      image: docker.io/acme/blur:1
      memory: 512Mi
      cpu: '0.5'
      script: blur.sh
      log_level: DEBUG
      input:
      - {storage_provider: minio.default, path: edge-blur/in}
      output:
      - {storage_provider: minio.default, path: edge-blur/out, suffix: ['.png', '.jpg']}
      environment:
        variables: {STRENGTH: '3'}
"""
PIPELINE = """\
functions:
  oscar:
  - lab:
      name: cut-video
      image: docker.io/acme/ffmpeg:1
      script: cut.sh
      input:  [{storage_provider: minio.default, path: video-flow/raw}]
      output: [{storage_provider: minio.default, path: video-flow/frames, suffix: ['.jpg']}]
  - lab:
      name: tag-frames
      image: docker.io/acme/tagger:1
      script: cut.sh
      input:  [{storage_provider: minio.default, path: video-flow/frames}]
      output: [{storage_provider: minio.default, path: video-flow/tags}]
"""
FAN_OUT = """\
functions:
  oscar:
  - lab:
      name: fan-out
      image: docker.io/acme/convert:1
      script: blur.sh
      input:
      - {storage_provider: minio, path: fan-out/in}
      output:
      - {storage_provider: minio, path: fan-out/out}
      - {storage_provider: s3.archive, path: acme-archive/results, prefix: [final]}
      - {storage_provider: onedata.space1, path: results}
      - {storage_provider: webdav.dcache, path: Users/acme/results}
      federation:
        topology: star
        delegation: static
        members: [{type: oscar, cluster_id: backup, service_name: fan-out, priority: 1}]
storage_providers:
  s3: {archive: {access_key: AK, secret_key: SK, region: eu-west-1}}
  onedata: {space1: {oneprovider_host: provider.example.org, token: TOK, space: my-space}}
  webdav: {dcache: {hostname: dav.example.org, login: u, password: p}}
clusters:
  backup: {endpoint: 'https://backup.example.org', auth_user: oscar, auth_password: pw, ssl_verify: true}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two scripts."""
    (tmp_path / "blur.sh").write_bytes(b"#!/bin/sh\r\nblur\r\n")
    (tmp_path / "cut.sh").write_text("cut\n")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    """The text as an FDL file."""
    path = folder / "fdl.yaml"
    path.write_text(text)
    return path


def refusal(folder: Path, text: str) -> FdlError:
    """What is said of an FDL file."""
    with pytest.raises(FdlError) as caught:
        load_fdl(write(folder, text))
    return caught.value


def service_of(fields: str) -> str:
    """An FDL file of one Service with these fields."""
    head = "functions:\n  oscar:\n  - lab:\n      name: a\n      image: i\n      script: cut.sh\n"
    return head + "".join(f"      {line}\n" for line in dedent(fields).splitlines())


def test_a_service_is_read_ready_to_post(folder: Path) -> None:
    (entry,) = load_fdl(write(folder, SIMPLE))

    assert (entry.cluster_id, entry.name) == ("lab", "edge-blur")
    assert entry.document == {
        "name": "edge-blur",
        "cluster_id": "lab",
        "image": "docker.io/acme/blur:1",
        "memory": "512Mi",
        "cpu": "0.5",
        "script": "#!/bin/sh\nblur\n",
        "log_level": "DEBUG",
        "input": [{"storage_provider": "minio.default", "path": "edge-blur/in"}],
        "output": [{"storage_provider": "minio.default", "path": "edge-blur/out", "suffix": [".png", ".jpg"]}],
        "environment": {"variables": {"STRENGTH": "3"}},
    }


def test_services_come_in_the_order_of_the_file(folder: Path) -> None:
    assert [entry.name for entry in load_fdl(write(folder, PIPELINE))] == ["cut-video", "tag-frames"]


def test_shared_providers_and_clusters_go_into_every_service(folder: Path) -> None:
    (entry,) = load_fdl(write(folder, FAN_OUT))
    parsed = parse_service(entry.document, owner="u")

    assert set(entry.document["clusters"]) == {"backup"}
    assert set(parsed.secrets.providers) == {"s3.archive", "onedata.space1", "webdav.dcache"}
    assert [output.storage_provider for output in parsed.service.output] == [
        "minio.default",
        "s3.archive",
        "onedata.space1",
        "webdav.dcache",
    ]
    assert parsed.service.extra["federation"]["topology"] == "star"


def test_providers_of_the_file_win_over_those_of_the_service(folder: Path) -> None:
    own = "storage_providers: {s3: {a: {region: mine}, b: {region: mine}}}"
    (entry,) = load_fdl(write(folder, service_of(own) + "storage_providers: {s3: {a: {region: shared}}}\n"))

    assert entry.document["storage_providers"] == {"s3": {"a": {"region": "shared"}, "b": {"region": "mine"}}}


def test_a_scripts_path_may_be_absolute(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    script = tmp_path_factory.mktemp("elsewhere") / "s.sh"
    script.write_text("elsewhere")

    (entry,) = load_fdl(write(folder, SIMPLE.replace("blur.sh", str(script))))

    assert entry.document["script"] == "elsewhere"


def test_texts_stay_as_they_are_written(folder: Path) -> None:
    fields = "cpu: 1.0\nenvironment:\n  Variables: {VERSION: 1.10, DAY: 2026-11-21, FLAG: yes, EMPTY: }\n"
    (entry,) = load_fdl(write(folder, service_of(fields)))

    assert entry.document["cpu"] == "1.0"
    assert entry.document["environment"]["Variables"] == {
        "VERSION": "1.10",
        "DAY": "2026-11-21",
        "FLAG": "yes",
        "EMPTY": None,
    }
    assert parse_service(entry.document, owner="u").service.variables["EMPTY"] == ""


def test_anchors_and_merge_keys_work(folder: Path) -> None:
    text = """\
    base: &base {image: i, script: cut.sh, synchronous: {max_scale: 4}}
    functions:
      oscar:
      - lab: &first
          <<: *base
          name: one
          image: other
      - lab:
          <<: *first
          name: two
      - lab: *first
    """
    services = [parse_service(entry.document, owner="u").service for entry in load_fdl(write(folder, dedent(text)))]

    assert [(service.name, service.image) for service in services] == [
        ("one", "other"),
        ("two", "other"),
        ("one", "other"),
    ]
    assert {service.synchronous for service in services} == {Synchronous(max_scale=4)}


@pytest.mark.parametrize(
    ("fields", "where", "said"),
    [
        (
            "input:\n- path: a/in\n- path: ' / '",
            (9, 9),
            "functions.oscar[0].lab.input[1].path: input path cannot be empty",
        ),
        (
            "input:\n- {storage_provider: minio}",
            (8, 3),
            "functions.oscar[0].lab.input[0].path: input path cannot be empty",
        ),
        ("memory: lots", (7, 9), "functions.oscar[0].lab.memory: not a quantity"),
        (
            "Environment:\n  Variables: {A: [1]}",
            (8, 18),
            "functions.oscar[0].lab.Environment.Variables.A: must be text",
        ),
        ("slots: 0", (7, 8), "functions.oscar[0].lab.slots: must be between 1 and 256"),
        ("name: b", (7, 1), "the key 'name' is there twice"),
        ("input: [", (8, 1), "while parsing a flow node"),
        (
            "input: !!python/object:os.system x",
            (7, 8),
            "the tag tag:yaml.org,2002:python/object:os.system is not allowed",
        ),
    ],
)
def test_an_error_points_into_the_file(folder: Path, fields: str, where: tuple[int, int], said: str) -> None:
    error = refusal(folder, service_of(fields))

    indent = 0 if fields == "input: [" else 6
    assert (error.line, error.column) == (where[0], where[1] + indent)
    assert error.reason.startswith(said)
    assert str(error).startswith(f"{folder / 'fdl.yaml'}:{error.line}:{error.column}: ")


def test_a_missing_script_is_shown_where_it_is_named(folder: Path) -> None:
    error = refusal(folder, SIMPLE.replace("blur.sh", "nowhere.sh"))

    assert (error.line, error.column) == (8, 15)
    assert error.reason == "functions.oscar[0].lab.script: nowhere.sh: No such file or directory"


def test_an_error_in_a_shared_block_points_there(folder: Path) -> None:
    error = refusal(folder, service_of("log_level: INFO") + "storage_providers:\n  s3: {a: nonsense}\n")

    assert (error.line, error.column) == (9, 11)
    assert error.reason == "storage_providers.s3.a: must be a map, not text"


@pytest.mark.parametrize("text", ["", "functions: {}", "functions: {aws: []}"])
def test_a_file_without_services_is_refused(folder: Path, text: str) -> None:
    assert refusal(folder, text).reason == "functions.oscar: is required: a list of Services"


def test_a_missing_file_is_said_to_be_missing(folder: Path) -> None:
    with pytest.raises(FdlError, match="No such file") as caught:
        load_fdl(folder / "none.yaml")
    assert caught.value.line is None


def test_an_entry_needs_exactly_one_cluster(folder: Path) -> None:
    assert "one key, the cluster's id" in refusal(folder, "functions:\n  oscar:\n  - {a: {}, b: {}}\n").reason


def test_endless_yaml_is_refused(folder: Path) -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    assert "too large" in refusal(folder, bomb).reason
