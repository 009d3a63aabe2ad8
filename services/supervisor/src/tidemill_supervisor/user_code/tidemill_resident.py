"""Answers tidemill's requests in a script with `resident: true`: load once, then handle one Invocation after another.

    from tidemill_resident import serve

    model = load_the_model()            # once

    def handle(request):                # for each Invocation
        text = open(request.input_file).read()
        ...                             # write outputs below request.output_dir
        return "an answer for a caller" # optional

    serve(handle)

Needs nothing but Python 3.6, so it cannot say `from __future__ import annotations`, and its types are in quotes. The
protocol is in docs/resident.md.
"""

import json
import os
import sys
import traceback
from typing import IO, Any, Callable  # noqa: UP035  # collections.abc.Callable takes no arguments before Python 3.9


class Request:
    """One Invocation, or a batch with `items`. A field that it does not have is None."""

    def __init__(self, fields: "dict[str, Any]") -> None:
        self.fields = fields
        self.items = [Request(item) for item in fields.get("items", ())]
        self.result: str | None = None
        self.error: str | None = None
        self.exit_code = 0
        self.files: list[str] | None = None

    def __getattr__(self, name: str) -> "Any":
        if name.startswith("__"):
            raise AttributeError(name)
        return self.fields.get(name)

    @property
    def event(self) -> "Any":
        """The Event, parsed when it is JSON; its text or bytes when it is not."""
        if "event" in self.fields:
            raw = self.fields["event"]
        else:
            with open(self.fields["event_file"], "rb") as file:
                raw = file.read()
        try:
            return json.loads(raw)
        except ValueError:
            return raw

    def fail(self, message: object, exit_code: int = 1) -> None:
        """Say that it failed; for one item of a batch: that the others did not."""
        self.error = str(message)
        self.exit_code = exit_code

    def answer(self) -> "dict[str, Any]":
        """The line that answers it."""
        found: dict[str, Any] = {"id": self.fields["id"], "exit_code": self.exit_code}
        for name in ("error", "result", "files"):
            if getattr(self, name) is not None:
                found[name] = getattr(self, name)
        if self.items:
            found["items"] = [item.answer() for item in self.items]
        return found


def serve(handle: "Callable[[Request], Any]") -> None:
    """Answer requests with `handle(request)` until no more come. What it returns is the answer of a direct call."""
    with open(os.environ["TIDEMILL_REQUESTS"], encoding="utf-8") as requests:  # noqa: SIM117  # in one line: Python 3.9
        with open(os.environ["TIDEMILL_RESPONSES"], "w", encoding="utf-8") as responses:
            _say(responses, {"ready": True})
            for line in requests:
                request = Request(json.loads(line))
                _handle(handle, request)
                _say(responses, request.answer())


def _handle(handle: "Callable[[Request], Any]", request: Request) -> None:
    try:
        found = handle(request)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if code:
            request.fail(f"exit {error.code}", code & 255)
    except Exception as error:  # noqa: BLE001  # whatever a handler raises is its Invocation's failure
        traceback.print_exc()
        request.fail(f"{type(error).__name__}: {error}")
    else:
        if found is not None:
            request.result = found if isinstance(found, str) else json.dumps(found)


def _say(responses: "IO[str]", answer: "dict[str, Any]") -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    responses.write(json.dumps(answer) + "\n")
    responses.flush()
