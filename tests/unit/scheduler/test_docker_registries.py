"""Image names in full, and the credentials that `docker login` left for their registries."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tidemill_scheduler.launchers.docker.registries import credentials_for, full_name, read_config

AUTH = {"auth": base64.b64encode(b"ada:s3:cret").decode()}
ADA = {"username": "ada", "password": "s3:cret"}


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3", "docker.io/library/alpine:3"),
        ("acme/blur", "docker.io/acme/blur:latest"),
        ("index.docker.io/acme/blur:1", "docker.io/acme/blur:1"),
        ("localhost/blur", "localhost/blur:latest"),
        ("registry.example:5000/a/b", "registry.example:5000/a/b:latest"),
        ("ghcr.io/a/b@sha256:00ff", "ghcr.io/a/b@sha256:00ff"),
    ],
)
def test_a_name_is_completed_as_docker_does(short: str, full: str) -> None:
    assert full_name(short) == full


@pytest.mark.parametrize(
    ("image", "auths", "found"),
    [
        ("ghcr.io/a/b", {"ghcr.io": AUTH}, ADA),
        ("ghcr.io/a/b", {"https://ghcr.io": AUTH}, ADA),
        ("acme/private", {"https://index.docker.io/v1/": AUTH}, ADA),
        ("ghcr.io/a/b", {"ghcr.io": {"identitytoken": "t"}}, {"identitytoken": "t"}),
        ("ghcr.io/a/b", {"ghcr.io": ADA}, ADA),
        ("ghcr.io/a/b", {"quay.io": AUTH}, None),
        ("ghcr.io/a/b", {"ghcr.io": {}}, None),
        ("ghcr.io/a/b", {"ghcr.io": {"auth": "%%"}}, None),
        ("ghcr.io/a/b", None, None),
    ],
)
def test_credentials_are_those_of_the_images_registry(
    image: str, auths: dict[str, Any] | None, found: dict[str, str] | None
) -> None:
    assert credentials_for(image, {"auths": auths}) == found


def test_a_missing_or_broken_file_is_no_credentials(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("{")
    (tmp_path / "list").write_text("[]")

    assert [read_config(tmp_path / name) for name in ("absent", "broken", "list")] == [{}, {}, {}]
