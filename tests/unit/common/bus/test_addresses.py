"""Live subjects of one Worker: what its role on the bus allows, and what processes of other versions listen on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tidemill_common.bus.addresses import busy_subject, cause_subject, drain_subject
from tidemill_common.contracts.contract import ServiceName, WorkerId


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (busy_subject, "live.worker.ocr.ocr-1"),
        (cause_subject, "live.cause.ocr.ocr-1"),
        (drain_subject, "live.drain.ocr.ocr-1"),
    ],
)
def test_both_ends_name_a_worker_alike(subject: Callable[[ServiceName, WorkerId], str], expected: str) -> None:
    assert subject(ServiceName("ocr"), WorkerId("ocr-1")) == expected
