"""What an operator changes of an embedded platform: `TIDEMILL_*` variables of `tidemill up`.

`TIDEMILL_BUS_<NAME>` is a field of `BusSettings`, for all processes; it also shapes the Streams, so it is kept in the
directory and holds at later starts too. `TIDEMILL_<COMPONENT>_<NAME>` is handed to that component as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from pydantic import TypeAdapter, ValidationError

from tidemill.errors import CliError
from tidemill.platform.layout import Layout, write_private
from tidemill_common.settings import BusSettings

_BUS: Final = "TIDEMILL_BUS_"
_OURS: Final = frozenset({"url", "user", "password", "password_file", "credentials_file"})
"""Decided by `up` itself."""
_TEXTS: Final = TypeAdapter(dict[str, str])


def bus_overrides(layout: Layout, environment: Mapping[str, str]) -> dict[str, str]:
    """Fields of BusSettings that were changed, now or at an earlier start; remembered.

    Raises:
        CliError: There is no such field, or it cannot have this value.
    """
    given = {name.removeprefix(_BUS).lower(): value for name, value in environment.items() if name.startswith(_BUS)}
    if wrong := sorted(given.keys() & _OURS):
        raise CliError(f"{_BUS}{wrong[0].upper()} cannot be set: `up` decides it")
    overrides = kept_overrides(layout) | given
    try:
        BusSettings.model_validate(overrides)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise CliError(f"{_BUS}{'_'.join(map(str, first['loc'])).upper()}: {first['msg']}") from error
    write_private(layout.bus, json.dumps(overrides, indent=2))
    return overrides


def kept_overrides(layout: Layout) -> dict[str, str]:
    """Those of the last start."""
    try:
        return _TEXTS.validate_json(layout.bus.read_bytes())
    except FileNotFoundError:
        return {}
    except ValidationError as error:
        raise CliError(f"{layout.bus} is damaged; restore it or remove it") from error


def component_overrides(prefix: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for one component that the operator has set."""
    return {name: value for name, value in environment.items() if name.startswith(f"{prefix}_")}
