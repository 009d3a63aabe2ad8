"""Several Invocations in one run: how a failed one is halved, and which output belongs to which input.

An output that could belong to two inputs belongs to none: the batch is halved until there is no doubt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, TypeVar

T = TypeVar("T")

_NAME_LIMIT_BYTES: Final = 255
"""Longest file name on Linux."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchInput:
    """One Invocation of a batch, as far as names go."""

    id: str
    file: str | None
    """The name of its input in the batch's input folder; None: it has none."""
    named: frozenset[str] = frozenset()
    """Its outputs, as the script's results name them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Which outputs are whose."""

    owned: Mapping[str, Mapping[str, str]]
    """By Invocation: the name to store it under, and its name below TMP_OUTPUT_DIR."""
    stray: tuple[str, ...]
    """Outputs that belong to none, or could belong to several, or would be stored under the name of another."""


def halves(items: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """The two halves of at least two items, in their order."""
    middle = (len(items) + 1) // 2
    return items[:middle], items[middle:]


def local_names(inputs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """File names for inputs, given as (Invocation, its file's name), in one folder.

    Each keeps its name, unless an earlier one has the same stem: then the Invocation's id and a dash are before it.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for identity, name in inputs:
        local = name if _stem(name) not in taken else _cut(f"{identity}-{name}")
        names[identity] = local
        taken.add(_stem(local))
    return names


def attribute(outputs: Iterable[str], inputs: Sequence[BatchInput]) -> Attribution:
    """Whose each output is: named in the results, else in the folder of an Invocation's id, else named like its input.

    A batch of one owns everything.
    """
    owned: dict[str, dict[str, str]] = {each.id: {} for each in inputs}
    stray = []
    for output in outputs:
        owner = _owner(output, inputs)
        name = "" if owner is None else _stored_name(output, owner)
        if owner is None or name in owned[owner.id]:
            stray.append(output)
        else:
            owned[owner.id][name] = output
    return Attribution(owned=owned, stray=tuple(stray))


def _owner(output: str, inputs: Sequence[BatchInput]) -> BatchInput | None:
    for candidates in (
        [each for each in inputs if output in each.named],
        [each for each in inputs if output.partition("/")[0] == each.id and "/" in output],
        [each for each in inputs if each.file is not None and _is_named_like(output, each.file)],
    ):
        if candidates:
            return candidates[0] if len(candidates) == 1 else None
    return inputs[0] if len(inputs) == 1 else None


def _stored_name(output: str, owner: BatchInput) -> str:
    """Without what the batch added: the folder of the id, or the id before the name of the input."""
    if output.startswith(f"{owner.id}/"):
        return output.removeprefix(f"{owner.id}/")
    folder, slash, name = output.rpartition("/")
    own = name.removeprefix(f"{owner.id}-")
    return output if own in ("", ".", "..") else f"{folder}{slash}{own}"


def _is_named_like(output: str, file: str) -> bool:
    """Whether the output's name begins with the input's, without extension, and no letter or digit follows."""
    name, stem = PurePosixPath(output).name, _stem(file)
    return name.startswith(stem) and not name[len(stem) : len(stem) + 1].isalnum()


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def _cut(name: str) -> str:
    encoded = name.encode("utf-8", "surrogateescape")
    return encoded[:_NAME_LIMIT_BYTES].decode("utf-8", "ignore")
