"""The environment of user code (OSCAR contract 6.1), built from nothing: what is not named here is not in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tidemill_common.contracts.invocation import Invocation
from tidemill_common.contracts.service import Service
from tidemill_supervisor.domain.events import Recognised

EVENT_LIMIT_BYTES: Final = 100 * 1024
"""Linux refuses one variable of 128 KiB or more (MAX_ARG_STRLEN); larger Events are in EVENT_FILE_PATH only."""
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULTS: Final = {"PATH": PATH, "LANG": "C.UTF-8"}
"""What a script sees unless the user, or the image that it runs in, says otherwise."""
WORKSPACE: Final = "TIDEMILL_WORKSPACE"
"""Names the workspace of a script that runs for several Invocations; others are named by their Attempt."""
TOKEN: Final = "OSCAR_SERVICE_TOKEN"  # noqa: S105 - a variable's name, no value


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one Attempt works, and who runs it."""

    root: Path
    attempt: int
    worker: str
    mark: str
    """Unique for this Worker process; by it everything that user code left behind is found."""
    node: str

    @property
    def input(self) -> Path:
        """TMP_INPUT_DIR."""
        return self.root / "input"

    @property
    def output(self) -> Path:
        """TMP_OUTPUT_DIR."""
        return self.root / "output"

    @property
    def tmp(self) -> Path:
        """TMPDIR."""
        return self.root / "tmp"

    @property
    def event_file(self) -> Path:
        """EVENT_FILE_PATH."""
        return self.root / "event"

    @property
    def script(self) -> Path:
        """The user's script."""
        return self.root / "script"


def named(place: Place) -> dict[str, str]:
    """The variable by which what a script left behind is found; the dot tells `resident-0-1` from `resident-0-10`."""
    return {WORKSPACE: f"{place.root.name}."}


def event_text(raw: bytes) -> str | None:
    """The Event as a variable; None: it is too large, or no text."""
    if len(raw) > EVENT_LIMIT_BYTES or b"\0" in raw:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return None


def user_environment(
    invocation: Invocation,
    service: Service,
    *,
    secrets: Mapping[str, str],
    event: Recognised,
    input_file: Path | None,
    place: Place,
) -> dict[str, str]:
    """All variables that the script sees. The user's own win over ours where OSCAR's contract does not fix a value."""
    environment = _chosen(service, secrets, place)
    environment |= {f"CONT_VAR_{name}": value for name, value in event.query.items()}
    environment |= _of_service(service, secrets, place)
    environment |= {
        "JOB_UUID": invocation.id,
        "TMP_INPUT_DIR": str(place.input),
        "TMP_OUTPUT_DIR": str(place.output),
        "EVENT_FILE_PATH": str(place.event_file),
        "TIDEMILL_INVOCATION_ID": invocation.id,
        "TIDEMILL_ATTEMPT": str(place.attempt),
    }
    environment |= _of_event(event)
    if input_file is not None:
        environment["INPUT_FILE_PATH"] = str(input_file)
    return _possible(environment)


def service_environment(
    service: Service, *, secrets: Mapping[str, str], place: Place, fixed: Mapping[str, str]
) -> dict[str, str]:
    """What a script sees that runs for several Invocations: nothing of any of them, and what `fixed` adds."""
    environment = _chosen(service, secrets, place) | _of_service(service, secrets, place)
    return _possible({**environment, **fixed})


def _chosen(service: Service, secrets: Mapping[str, str], place: Place) -> dict[str, str]:
    return {"HOME": str(place.root), "TMPDIR": str(place.tmp), **service.variables, **secrets}


def _of_service(service: Service, secrets: Mapping[str, str], place: Place) -> dict[str, str]:
    return {
        "OSCAR_SERVICE_NAME": service.name,
        TOKEN: secrets.get(TOKEN, ""),
        "OSCAR_SERVICE_BASE_PATH": f"/system/services/{service.name}/exposed" if service.expose else "",
        "RESOURCE_ID": place.node,
        "TIDEMILL_WORKER": place.worker,
        "TIDEMILL_MARK": place.mark,
    }


def _of_event(event: Recognised) -> dict[str, str]:
    found = {"STORAGE_OBJECT_KEY": event.object_key, "EVENT_TIME": event.time, "EVENT": event_text(event.raw)}
    return {name: value for name, value in found.items() if value is not None}


def _possible(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if _is_possible(name, value)}


def _is_possible(name: str, value: str) -> bool:
    return bool(name) and "=" not in name and "\0" not in name and "\0" not in value
