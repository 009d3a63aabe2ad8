"""One run of the script for several Invocations: their inputs in one folder, a manifest, and whose each output is."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tidemill_common.contracts.invocation import Reason
from tidemill_supervisor.definitions import Definition
from tidemill_supervisor.domain.batches import BatchInput, attribute, local_names
from tidemill_supervisor.domain.environment import Place, named, service_environment
from tidemill_supervisor.domain.outcome import Outcome
from tidemill_supervisor.domain.protocol import (
    BATCH,
    RESULTS,
    Answer,
    Assignment,
    BatchAnswer,
    ProtocolError,
    batch_answer_of,
    batch_request,
)
from tidemill_supervisor.domain.transcript import NOTE
from tidemill_supervisor.execution import Limits, execute
from tidemill_supervisor.ports import Command, Scripts, Sink
from tidemill_supervisor.processes import interpreter_of
from tidemill_supervisor.residents import Question, Residents, outcome_of
from tidemill_supervisor.staging import Left, StagingError, stage_in, walk
from tidemill_supervisor.workspace import furnish
from tidemill_supervisor.workspaces import make

_RESULTS_LIMIT_BYTES: Final = 16 * 1024**2
_SHOWN_NAMES: Final = 3


@dataclass(eq=False, kw_only=True)
class Member:
    """One Invocation in a batch."""

    assignment: Assignment
    definition: Definition
    limits: Limits
    sink: Sink
    outcome: asyncio.Future[Outcome]
    is_gone: bool = False
    """It was cancelled, or given up: whatever becomes of it is dropped."""
    left: Left | None = None
    folder: Folder | None = None
    signature: tuple[int, int, int] | None = field(init=False)
    _is_at_line_start: bool = True

    def __post_init__(self) -> None:
        self.signature = _signature(self.assignment.input_file)

    @property
    def id(self) -> str:
        """The Invocation's."""
        return self.assignment.invocation.id

    def note(self, text: str) -> None:
        """Tell it in the Invocation's log."""
        self.write(f"{'' if self._is_at_line_start else chr(10)}{NOTE}{text}\n".encode())

    def write(self, chunk: bytes) -> None:
        """What the script writes is in the log of each."""
        if not self.is_gone and chunk:
            self.sink(chunk)
            self._is_at_line_start = chunk.endswith(b"\n")

    async def input_file(self) -> Path | None:
        """Its input as it was staged in; once more, if an earlier run has changed it.

        Raises:
            StagingError: It cannot be fetched again.
        """
        found = self.assignment
        if found.input_file is not None and _signature(found.input_file) != self.signature:
            found.input_file.unlink(missing_ok=True)
            fetched = await stage_in(found.event, found.place, self.definition.stores, self.note)
            self.assignment = replace(found, input_file=fetched)
            self.signature = _signature(fetched)
        return self.assignment.input_file


class Folder:
    """The workspace of one run; removed when the run and all whose outputs are in it need it no more."""

    def __init__(self, scripts: Scripts, place: Place) -> None:
        self.place = place
        self._scripts = scripts
        self._users = 1

    def keep(self) -> None:
        """One more needs it."""
        self._users += 1

    async def leave(self) -> None:
        """One less needs it."""
        self._users -= 1
        if not self._users:
            await self._scripts.wipe(self.place.root)


class BatchRuns:
    """Runs batches in the directory of one Worker.

    Args:
        residents: To whom batches are put when a Service's script is resident.
    """

    def __init__(
        self, scripts: Scripts, pattern: Place, residents: Callable[[], Residents], *, enforce_memory: bool
    ) -> None:
        self._enforce_memory = enforce_memory
        self._scripts = scripts
        self._pattern = pattern
        self._residents = residents
        self._numbers = itertools.count(1)

    async def run(self, members: Sequence[Member]) -> Outcome | None:
        """Run once for all of them. None: each has its own outcome; else how it failed as a whole, which none has yet.

        Raises:
            OSError: The workspace cannot be made.
        """
        name = f"batch-{next(self._numbers)}"
        folder = Folder(self._scripts, replace(self._pattern, root=self._pattern.root.with_name(name), attempt=1))
        try:
            return await self._run(folder, members)
        finally:
            await folder.leave()

    async def _run(self, folder: Folder, members: Sequence[Member]) -> Outcome | None:
        definition = max((member.definition for member in members), key=lambda each: each.revision)
        if definition.service.resident:
            make(folder.place)
        else:
            furnish(folder.place, script=definition.service.script, event=b"")
        members, names = await _bring_inputs(folder.place, members)
        if not members:
            return None
        answer = await self._answer(folder.place, definition, members, names)
        if isinstance(answer, Outcome):
            return answer
        if (whole := outcome_of(answer)).reason is not Reason.COMPLETED:
            return whole
        return await _settle(folder, members, names, answer)

    async def _answer(
        self, place: Place, definition: Definition, members: Sequence[Member], names: dict[str, str]
    ) -> BatchAnswer | Outcome:
        items = []
        for member in members:
            output_dir = place.output / member.id
            output_dir.mkdir()
            output_dir.chmod(0o777)
            file = place.input / names[member.id] if member.id in names else None
            items.append((member.assignment, file, output_dir))
        line = batch_request(place.root.name, place, items, timeout=definition.service.timeout)
        limits = replace(members[0].limits, timeout=definition.service.timeout, timeout_reason=Reason.TIMEOUT)
        if not definition.service.resident:
            return await self._run_script(place, definition, limits, members, line)
        question = Question(
            line=line,
            read=lambda heard: batch_answer_of(heard, place.root.name),
            definition=definition,
            limits=limits,
            deadline=None,
            workspace=place.root,
            sink=_everybody(members),
        )
        return await self._residents().ask(question)

    async def _run_script(
        self, place: Place, definition: Definition, limits: Limits, members: Sequence[Member], manifest: bytes
    ) -> BatchAnswer | Outcome:
        paths = {BATCH: place.root / "batch.json", RESULTS: place.root / "results.json"}
        paths[BATCH].write_bytes(manifest)
        fixed = {name: str(path) for name, path in paths.items()} | named(place)
        fixed |= {"TMP_INPUT_DIR": str(place.input), "TMP_OUTPUT_DIR": str(place.output)}
        command = Command(
            arguments=interpreter_of(definition.service.script, place.script),
            environment=service_environment(definition.service, secrets=definition.secrets, place=place, fixed=fixed),
            directory=place.root,
            file_limit_bytes=limits.disk_bytes,
            memory_limit_bytes=definition.memory_bytes if self._enforce_memory else None,
        )
        outcome = await execute(self._scripts, command, place, limits, _everybody(members))
        return outcome if outcome.reason is not Reason.COMPLETED else _results(paths[RESULTS])


async def _bring_inputs(place: Place, members: Sequence[Member]) -> tuple[list[Member], dict[str, str]]:
    """Put all inputs into one folder; returns who is still there, and the name of each one's file."""
    here: list[Member] = []
    files: dict[str, Path] = {}
    for member in members:
        try:
            file = await member.input_file()
        except StagingError as error:
            _end(member, error.outcome)
            continue
        here.append(member)
        if file is not None:
            files[member.id] = file
    names = local_names((identity, file.name) for identity, file in files.items())
    for identity, name in names.items():
        await _link(files[identity], place.input / name)
    return here, names


async def _link(source: Path, target: Path) -> None:
    """A second name for a file, so that the first is there when the script removes its own."""
    try:
        os.link(source, target)
    except OSError:  # this file system has no links, or the file is another user's
        await asyncio.to_thread(shutil.copyfile, source, target)


def _results(path: Path) -> BatchAnswer | Outcome:
    try:
        if path.stat().st_size > _RESULTS_LIMIT_BYTES:
            raise ProtocolError(f"the results are larger than {_RESULTS_LIMIT_BYTES} bytes")
        return batch_answer_of(path.read_bytes(), None)
    except FileNotFoundError:
        return BatchAnswer()
    except (ProtocolError, OSError) as error:
        return Outcome(reason=Reason.SCRIPT_FAILED, message=f"read {RESULTS}: {error}")


async def _settle(
    folder: Folder, members: Sequence[Member], names: dict[str, str], answer: BatchAnswer
) -> Outcome | None:
    """Give each its outcome and its outputs; an outcome for all: some outputs belong to none."""
    inputs = [BatchInput(id=each.id, file=names.get(each.id), named=_named(answer, each.id)) for each in members]
    root = folder.place.output
    found = await asyncio.to_thread(lambda: sorted(path.relative_to(root).as_posix() for path in walk(root)))
    attribution = attribute(found, inputs)
    if attribution.stray:
        names_shown = ", ".join(attribution.stray[:_SHOWN_NAMES])
        more = f" and {len(attribution.stray) - _SHOWN_NAMES} more" if len(attribution.stray) > _SHOWN_NAMES else ""
        message = f"it is not clear whose output {names_shown}{more} is"
        return Outcome(reason=Reason.STAGE_OUT_FAILED, message=message)
    is_alone = len(members) == 1
    for member in members:
        owned = attribution.owned[member.id]
        member.left = Left(workspace=folder.place.root, output=root, names=owned)
        if not member.is_gone:
            folder.keep()
            member.folder = folder
        _end(member, _outcome(answer, member.id, is_alone=is_alone, has_outputs=bool(owned)))
    return None


def _outcome(answer: BatchAnswer, identity: str, *, is_alone: bool, has_outputs: bool) -> Outcome:
    own = answer.items.get(identity, Answer())
    if own.result is None and is_alone:
        own = replace(own, result=answer.result)
    outcome = outcome_of(own)
    if outcome.result is None and not is_alone and not has_outputs:
        return replace(outcome, result=b"")  # what the script wrote is everybody's, and no caller's answer
    return outcome


def _named(answer: BatchAnswer, identity: str) -> frozenset[str]:
    return frozenset(answer.items.get(identity, Answer()).files or ())


def _everybody(members: Sequence[Member]) -> Sink:
    def write(chunk: bytes) -> None:
        for member in members:
            member.write(chunk)

    return write


def _end(member: Member, outcome: Outcome) -> None:
    if not member.outcome.done():
        member.outcome.set_result(outcome)


def _signature(file: Path | None) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        if file is not None:
            found = file.stat(follow_symlinks=False)
            return found.st_ino, found.st_size, found.st_mtime_ns
    return None
