"""What user code is told of Invocations, and what it answers: the lines of resident scripts, the files of batches.

One description of an Invocation serves everywhere: alone it is a request, several make a batch (docs/resident.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from tidemill_common.contracts.invocation import Invocation
from tidemill_common.errors import TidemillError
from tidemill_supervisor.domain.environment import Place, event_text
from tidemill_supervisor.domain.events import Recognised

REQUESTS: Final = "TIDEMILL_REQUESTS"
RESPONSES: Final = "TIDEMILL_RESPONSES"
"""Paths of the two FIFOs of a resident script."""
BATCH: Final = "TIDEMILL_BATCH"
RESULTS: Final = "TIDEMILL_RESULTS"
"""Paths of the manifest of a batch, and of the results that its script may write."""

_SHOWN_CHARACTERS: Final = 120


class ProtocolError(TidemillError):
    """User code answered something that is no answer; says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What user code shall work on: one Invocation, staged in."""

    invocation: Invocation
    event: Recognised
    input_file: Path | None
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What user code says of one Invocation."""

    exit_code: int = 0
    message: str | None = None
    result: str | None = None
    files: tuple[str, ...] | None = None
    """Names of its outputs below TMP_OUTPUT_DIR; None: it names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAnswer(Answer):
    """What user code says of several: of all together, and of each one that it names."""

    items: Mapping[str, Answer] = field(default_factory=dict)


def description(assignment: Assignment) -> dict[str, Any]:
    """One Invocation, as an ordinary script would find it in its environment."""
    event, place = assignment.event, assignment.place
    found: dict[str, Any] = {"id": assignment.invocation.id, "attempt": place.attempt}
    text = event_text(event.raw)
    found |= {"event_file": str(place.event_file)} if text is None else {"event": text}
    if assignment.input_file is not None:
        found["input_file"] = str(assignment.input_file)
    if event.object_key is not None:
        found["object_key"] = event.object_key
    if event.time is not None:
        found["event_time"] = event.time
    if event.query:
        found["query"] = dict(event.query)
    if (deadline := assignment.invocation.event.deadline) is not None:
        found["deadline"] = deadline.isoformat()
    return found


def request(assignment: Assignment, *, timeout: timedelta | None) -> bytes:
    """The line that asks a resident script to work on one Invocation."""
    return _line(description(assignment) | _folders(assignment.place) | _limit(timeout))


def batch_request(
    name: str, place: Place, items: Sequence[tuple[Assignment, Path | None, Path]], *, timeout: timedelta | None
) -> bytes:
    """The line, or the manifest, that asks for several; each with its input and the folder for its outputs."""
    described = []
    for assignment, input_file, output_dir in items:
        item = description(assignment)
        item |= {} if input_file is None else {"input_file": str(input_file)}
        described.append(item | {"output_dir": str(output_dir)})
    return _line({"id": name, "items": described} | _folders(place) | _limit(timeout))


def is_ready(line: bytes) -> bool:
    """Whether this is a script's first line, by which it says that requests may come."""
    try:
        return _object(line).get("ready") is True
    except ProtocolError:
        return False


def answer_of(line: bytes, expected: str) -> Answer:
    """What a resident script answered.

    Raises:
        ProtocolError: It is no answer to the request `expected`.
    """
    found = _object(line)
    if found.get("id") != expected:
        raise ProtocolError(f"it answered {found.get('id')!r}, but was asked for {expected!r}")
    return _answer(found)


def batch_answer_of(line: bytes, expected: str | None) -> BatchAnswer:
    """What user code says of a batch; `expected` None: a results file, which need not repeat the batch's id.

    Raises:
        ProtocolError: It is no answer.
    """
    whole = _answer(_object(line)) if expected is None else answer_of(line, expected)
    items = _object(line).get("items", [])
    if not isinstance(items, list) or not all(isinstance(item, dict) and _is_text(item.get("id")) for item in items):
        raise ProtocolError(f"its items must be a list of objects with an id: {_shown(line)}")
    return BatchAnswer(
        exit_code=whole.exit_code,
        message=whole.message,
        result=whole.result,
        files=whole.files,
        items={item["id"]: _answer(item) for item in items},
    )


def _answer(found: Mapping[str, Any]) -> Answer:
    error, result, files = found.get("error"), found.get("result"), found.get("files")
    exit_code = found.get("exit_code", 0 if error is None else 1)
    if not isinstance(exit_code, int) or not 0 <= exit_code <= 255:
        raise ProtocolError(f"exit_code must be a number from 0 to 255, not {exit_code!r}")
    if files is not None and not (isinstance(files, list) and all(_is_text(name) for name in files)):
        raise ProtocolError("files must be a list of names")
    return Answer(
        exit_code=exit_code,
        message=None if error is None else str(error),
        result=result if result is None or isinstance(result, str) else json.dumps(result, ensure_ascii=False),
        files=None if files is None else tuple(files),
    )


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"it answered no JSON: {_shown(line)}") from error
    if not isinstance(found, dict):
        raise ProtocolError(f"it answered no JSON object: {_shown(line)}")
    return found


def _folders(place: Place) -> dict[str, str]:
    root = place.root  # not `place.input` and so on: making three paths takes as long as all the rest of a line
    return {"input_dir": f"{root}/input", "output_dir": f"{root}/output", "tmp_dir": f"{root}/tmp"}


def _limit(timeout: timedelta | None) -> dict[str, float]:
    return {} if timeout is None else {"timeout": round(timeout.total_seconds(), 3)}


def _line(value: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "replace").strip()
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)
