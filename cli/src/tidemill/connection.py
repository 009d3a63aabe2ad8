"""Which platform a command talks to: flags, environment, the directory of `tidemill up`, OSCAR's file, in this order.

Credentials never leave the place they belong to: when an endpoint is given by hand, no password of a file is sent to it
unless that file is about the same endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from tidemill.errors import CliError, Exit
from tidemill.platform.connection import Connection
from tidemill.platform.layout import read_model

DEFAULT_DIRECTORY: Final = ".tidemill"
OSCAR_CONFIG: Final = Path("~/.oscar-cli/config.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the user said about the platform to talk to; None: nothing."""

    endpoint: str | None = None
    username: str | None = None
    password: str | None = None
    cluster: str | None = None
    """An entry of OSCAR's configuration file."""

    @classmethod
    def of_environment(cls, environment: Mapping[str, str]) -> Wishes:
        """From TIDEMILL_* variables."""
        return cls(
            endpoint=environment.get("TIDEMILL_ENDPOINT") or None,
            username=environment.get("TIDEMILL_USERNAME") or None,
            password=environment.get("TIDEMILL_PASSWORD") or None,
            cluster=environment.get("TIDEMILL_CLUSTER") or None,
        )

    def over(self, other: Wishes) -> Wishes:
        """These, and where they say nothing the others. An endpoint brings its own credentials."""
        if self.endpoint is not None and other.endpoint not in (None, self.endpoint):
            other = Wishes(cluster=other.cluster)
        return Wishes(
            endpoint=self.endpoint or other.endpoint,
            username=self.username or other.username,
            password=self.password or other.password,
            cluster=self.cluster or other.cluster,
        )


def choose(wishes: Wishes, *, local: Connection | None, clusters: Mapping[str, Connection], default: str) -> Connection:
    """The connection to use.

    Args:
        local: Of the directory of `tidemill up`; None: there is none.
        clusters: Of OSCAR's configuration file.
        default: That file's default cluster; empty: none.

    Raises:
        CliError: There is none, or the cluster is not in the file.
    """
    if wishes.cluster is not None:
        if wishes.cluster not in clusters:
            raise CliError(f"no cluster {wishes.cluster!r} in {OSCAR_CONFIG}", Exit.USAGE)
        known: Connection | None = clusters[wishes.cluster]
    else:
        known = local or clusters.get(default)
    if wishes.endpoint is not None and (known is None or _bare(known.endpoint) != _bare(wishes.endpoint)):
        same = (found for found in clusters.values() if _bare(found.endpoint) == _bare(wishes.endpoint or ""))
        known = next(same, Connection(endpoint=wishes.endpoint))
    if known is None:
        raise CliError(
            "no platform to talk to: start one with `tidemill up`, or give --endpoint (or TIDEMILL_ENDPOINT)",
            Exit.CONNECTION,
        )
    changes = {"username": wishes.username, "password": wishes.password}
    return known.model_copy(update={name: value for name, value in changes.items() if value is not None})


def _bare(endpoint: str) -> str:
    return endpoint.rstrip("/")


def find_directory(start: Path) -> Path | None:
    """The nearest `.tidemill` with a connection, in `start` or above it."""
    for folder in (start, *start.parents):
        if (folder / DEFAULT_DIRECTORY / "connection.json").is_file():
            return folder / DEFAULT_DIRECTORY
    return None


def read_local(directory: Path | None) -> Connection | None:
    """The connection that `tidemill up` wrote; None: none."""
    return read_model(directory / "connection.json", Connection) if directory is not None else None


def read_oscar_config(path: Path) -> tuple[dict[str, Connection], str]:
    """(clusters, default cluster) of OSCAR's configuration file; nothing when there is none.

    Entries that log in by OIDC are left out: they cannot be used here.

    Raises:
        CliError: The file cannot be understood.
    """
    try:
        document = yaml.safe_load(path.read_bytes())
    except FileNotFoundError:
        return {}, ""
    except (yaml.YAMLError, OSError) as error:
        raise CliError(f"{path}: {error}", Exit.USAGE) from error
    if not isinstance(document, dict):
        return {}, ""
    entries = document.get("oscar") or {}
    clusters = {str(name): _cluster(entry, path) for name, entry in entries.items() if isinstance(entry, dict)}
    return clusters, str(document.get("default") or "")


def _cluster(entry: Mapping[str, Any], path: Path) -> Connection:
    try:
        return Connection(
            endpoint=str(entry.get("endpoint") or "").rstrip("/"),
            username=str(entry.get("auth_user") or ""),
            password=str(entry.get("auth_password") or ""),
            verify=bool(entry.get("ssl_verify", True)),
        )
    except ValidationError as error:
        raise CliError(f"{path}: {error.errors()[0]['msg']}", Exit.USAGE) from error
