"""The table of Streams, and what differs from it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill_common.bus import Backlog, StreamAction
from tidemill_common.bus.addresses import shard_of
from tidemill_common.bus.backlogs import backlogs
from tidemill_common.bus.memory.stream import matches
from tidemill_common.bus.nats.pulling import origin_of
from tidemill_common.bus.streams import describe, stream_plan, stream_table
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.errors import InvalidMessageError
from tidemill_common.settings import BusSettings

TABLE = stream_table(BusSettings())


def server(**changes: Any) -> dict[str, dict[str, object] | None]:
    """What a server tells that has the table, EVENTS with `changes` and with fields we do not set."""
    configs: dict[str, dict[str, object] | None] = {spec.name: spec.config() for spec in TABLE}
    configs["EVENTS"] = {**(configs["EVENTS"] or {}), "allow_direct": True, **changes}
    return configs


def test_a_server_that_has_the_table_needs_nothing() -> None:
    assert stream_plan(TABLE, server()) == ()


def test_a_field_that_the_server_leaves_out_is_at_its_zero_value() -> None:
    told = server()
    definitions = told["DEFINITIONS"]
    assert definitions is not None
    del definitions["max_age"], definitions["allow_msg_schedules"]
    assert stream_plan(TABLE, told) == ()


def test_what_is_missing_is_created() -> None:
    assert [change.action for change in stream_plan(TABLE, {})] == [StreamAction.CREATE] * len(TABLE)


@pytest.mark.parametrize(
    ("changes", "action"),
    [
        ({"max_age": 5}, StreamAction.UPDATE),
        ({"discard": "old"}, StreamAction.UPDATE),
        ({"subjects": ["event.>", "more.>"]}, StreamAction.UPDATE),
        ({"storage": "memory"}, StreamAction.RECREATE),
        ({"retention": "workqueue"}, StreamAction.RECREATE),
        ({"allow_msg_schedules": True}, StreamAction.RECREATE),
    ],
)
def test_a_difference_is(changes: dict[str, object], action: StreamAction) -> None:
    (change,) = stream_plan(TABLE, server(**changes))
    assert (change.stream, change.action, change.fields.keys()) == ("EVENTS", action, changes.keys())
    assert next(iter(changes)) in describe(change)


def test_no_stream_with_schedules_refuses_when_full() -> None:
    """The server does not take such a configuration."""
    assert not [spec for spec in TABLE if spec.schedules and spec.refuse_when_full]


@given(st.text(min_size=1), st.integers(1, 64))
def test_a_service_has_one_shard(service: str, shards: int) -> None:
    assert 0 <= shard_of(service, shards) < shards
    assert shard_of(service, shards) == shard_of(service, shards)


def test_backlogs_are_summed_by_service() -> None:
    pairs = [("work.0.a.batch", 3), ("work.1.b.interactive", 1), ("later.0.a.batch.x", 1), ("later.0.a.batch.y", 1)]
    assert backlogs(pairs) == {
        ServiceName("a"): Backlog(batch=3, delayed=2),
        ServiceName("b"): Backlog(interactive=1),
    }


@pytest.mark.parametrize(
    ("pattern", "subject", "expected"),
    [
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a.b.d", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.*", "a.b.c", False),
    ],
)
def test_wildcards(pattern: str, subject: str, expected: bool) -> None:
    assert matches(pattern, subject) is expected


@pytest.mark.parametrize(
    "reply", ["$JS.ACK.WORK_1.c.2.7.9.1700000000000000000.5", "$JS.ACK.hub.acc.WORK_1.c.2.7.9.1700000000000000000.5.xy"]
)
def test_a_delivery_tells_its_origin(reply: str) -> None:
    origin = origin_of(reply)
    assert (origin.stream, origin.delivered, origin.position, origin.sequence, origin.pending) == ("WORK_1", 2, 7, 9, 5)
    assert origin.time.year == 2023


def test_what_is_no_delivery_is_refused() -> None:
    with pytest.raises(InvalidMessageError):
        origin_of("_INBOX.x")
