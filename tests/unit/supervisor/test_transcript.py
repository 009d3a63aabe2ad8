"""Output is kept within bounds, its last lines always."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidemill_supervisor.domain.transcript import CUT, LINE_OVERHEAD_BYTES, Batch, LogBounds, Transcript


def drained(transcript: Transcript) -> list[Batch]:
    batches = []
    while (batch := transcript.take()) is not None:
        batches.append(batch)
    return batches


def lines_of(*chunks: bytes, bounds: LogBounds | None = None) -> list[str]:
    transcript = Transcript(bounds or LogBounds())
    for chunk in chunks:
        transcript.feed(chunk)
    transcript.finish()
    return [line for batch in drained(transcript) for line in batch.lines]


@given(st.lists(st.text(st.characters(blacklist_characters="\n\r", blacklist_categories=["Cs"]))), st.integers(1, 7))
def test_lines_are_the_same_however_they_arrive(lines: list[str], size: int) -> None:
    whole = "".join(f"{line}\n" for line in lines).encode()
    chunks = [whole[start : start + size] for start in range(0, len(whole), size)]
    assert lines_of(*chunks) == lines


def test_a_last_line_without_end_counts() -> None:
    assert lines_of(b"one\ntw", b"o") == ["one", "two"]


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert lines_of(b"a\xffb\r\n") == ["a�b"]


def test_long_lines_are_cut_once() -> None:
    bounds = LogBounds(line_bytes=10)
    assert lines_of(b"x" * 25, b"x" * 30, b"\nnext\n", b"y" * 11 + b"\n", bounds=bounds) == [
        "x" * 10 + CUT,
        "next",
        "y" * 10 + CUT,
    ]


@given(st.lists(st.binary(max_size=60), max_size=60), st.integers(0, 1500))
def test_every_line_is_shipped_or_counted_as_dropped(chunks: list[bytes], kept: int) -> None:
    transcript = Transcript(LogBounds(kept_bytes=kept, line_bytes=10_000, tail_bytes=40))
    for chunk in chunks:
        transcript.feed(chunk)
    transcript.finish()
    batches = drained(transcript)
    whole = b"".join(chunks)
    count = whole.count(b"\n") + bool(whole and not whole.endswith(b"\n"))
    assert sum(len(batch.lines) + batch.dropped_lines for batch in batches) in range(count - 1, count + 2)
    position = 0
    for batch in batches:
        assert batch.first_line == position + batch.dropped_lines
        position = batch.first_line + len(batch.lines)


@given(st.lists(st.binary(max_size=3000), max_size=40))
def test_memory_and_records_stay_within_their_bounds(chunks: list[bytes]) -> None:
    bounds = LogBounds(kept_bytes=5000, line_bytes=100, tail_bytes=200, text_bytes=300, record_bytes=1000)
    transcript = Transcript(bounds)
    for chunk in chunks:
        transcript.feed(chunk)
    transcript.finish()
    batches = drained(transcript)
    total = sum(len(line) + LINE_OVERHEAD_BYTES for batch in batches for line in batch.lines)
    assert total <= 5000 + 200 * (LINE_OVERHEAD_BYTES + 1) + 100 + LINE_OVERHEAD_BYTES + len(CUT)
    assert len(transcript.tail.encode()) <= 200
    assert transcript.text == b"".join(chunks)[:300]
    assert all(sum(map(len, batch.lines)) <= 1000 or len(batch.lines) == 1 for batch in batches)


def test_what_was_dropped_is_counted_before_the_last_lines() -> None:
    transcript = Transcript(LogBounds(kept_bytes=200, tail_bytes=24))
    for number in range(1000):
        transcript.feed(f"line {number:03}\n".encode())
    transcript.finish()
    first, last = drained(transcript)
    assert first == Batch(first_line=0, lines=("line 000", "line 001", "line 002"), dropped_lines=0)
    assert last.lines[-2:] == ("line 998", "line 999")
    assert last.first_line + len(last.lines) == 1000
    assert last.dropped_lines == 1000 - 3 - len(last.lines)


def test_notes_are_lines_but_no_text_of_the_script() -> None:
    transcript = Transcript(LogBounds())
    transcript.feed(b"half")
    transcript.note("the input changed")
    transcript.feed(b" line\n")
    transcript.finish()
    assert [line for batch in drained(transcript) for line in batch.lines] == [
        "half",
        "[tidemill] the input changed",
        " line",
    ]
    assert transcript.text == b"half line\n"
