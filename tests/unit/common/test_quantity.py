"""Kubernetes quantities as numbers."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill_common.errors import InvalidInputError
from tidemill_common.quantity import millicores, parse_quantity, size_bytes


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", "1"),
        ("0.2", "0.2"),
        (".5", "0.5"),
        ("2.", "2"),
        ("500m", "0.5"),
        (" 256Mi ", str(256 * 2**20)),
        ("1k", "1000"),
        ("1Ki", "1024"),
        ("1.5G", "1500000000"),
        ("2Gi", str(2 * 2**30)),
        ("1E", "1e18"),
    ],
)
def test_a_quantity_is_what_kubernetes_takes_it_for(text: str, number: str) -> None:
    assert parse_quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "lots", "-1", "1 Gi", "1KiB", "0x10", "1ki", "NaN", "1.2.3", "m"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="not a quantity"):
        parse_quantity(text)


@given(st.integers(0, 10**9))
def test_millicores_are_themselves(count: int) -> None:
    assert millicores(f"{count}m") == count


@pytest.mark.parametrize(("text", "count"), [("0.2", 200), ("0.0001", 1), ("1.0005", 1001), ("0", 0)])
def test_parts_of_a_millicore_are_rounded_up(text: str, count: int) -> None:
    assert millicores(text) == count


@pytest.mark.parametrize(("text", "count"), [("256Mi", 268435456), ("0.1", 1), ("1500m", 2), ("0", 0)])
def test_parts_of_a_byte_are_rounded_up(text: str, count: int) -> None:
    assert size_bytes(text) == count
