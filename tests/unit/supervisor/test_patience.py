"""A store that does not answer is asked again, and one that refuses is not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tidemill_common.errors import AccessDeniedError, TidemillError, UnavailableError
from tidemill_supervisor.patience import patiently

AT_ONCE = timedelta(0)


class Step:
    """Fails in these ways, one after the other, and then works."""

    def __init__(self, *failures: TidemillError) -> None:
        self.failures = list(failures)
        self.tries = 0

    async def __call__(self) -> int:
        self.tries += 1
        if self.failures:
            raise self.failures.pop(0)
        return self.tries


async def test_a_step_is_tried_again_while_the_store_is_away() -> None:
    assert await patiently(Step(UnavailableError("away"), UnavailableError("away")), [AT_ONCE, AT_ONCE]) == 3


async def test_patience_ends_with_what_the_store_said_last() -> None:
    step = Step(UnavailableError("first"), UnavailableError("last"), UnavailableError("never seen"))
    with pytest.raises(UnavailableError, match="last"):
        await patiently(step, [AT_ONCE])
    assert step.tries == 2


async def test_what_a_store_refuses_is_not_tried_again() -> None:
    step = Step(AccessDeniedError("no"))
    with pytest.raises(AccessDeniedError):
        await patiently(step, [AT_ONCE, AT_ONCE])
    assert step.tries == 1
