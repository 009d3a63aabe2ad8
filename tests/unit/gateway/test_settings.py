"""A wrong setting stops the start, not the first request."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tidemill_gateway.settings import Settings


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"password": ""}, "password"),
        ({"calls": {"timeout": "PT2H"}}, "longest_timeout"),
        ({"retention": {"invocations": "P1D"}}, "retention.hidden"),
        ({"retention": {"hidden": "P1D"}}, "lifecycle_max_age"),
        ({"retention": {"objects": "P8D"}}, "dead_max_age"),
        ({"calls": {"inline_limit_bytes": 70_000}}, "inline_limit_bytes"),
        ({"typo": 1}, "typo"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        Settings.model_validate({"password": "pw"} | settings)
