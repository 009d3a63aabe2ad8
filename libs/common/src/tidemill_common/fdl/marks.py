"""YAML as plain values, with the line and column of each."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from tidemill_common.errors import InvalidInputError
from tidemill_common.fdl.reading import Place

_TEXT_MAPS: Final = frozenset({"variables", "secrets", "labels", "annotations"})
_TEXT_FIELDS: Final = frozenset({"cpu", "memory", "total_cpu", "total_memory", "ephemeral_storage_request"})
_PLAIN_TAGS: Final = frozenset(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))
_TEXT_TAGS: Final = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "timestamp", "value"))
_NULL_TAG: Final = "tag:yaml.org,2002:null"
_MERGE_TAG: Final = "tag:yaml.org,2002:merge"
_MAX_DEPTH: Final = 64
_MAX_VALUES: Final = 100_000


class MarkedError(InvalidInputError):
    """The text is not the YAML that is wanted.

    Args:
        reason: What is wrong.
        mark: Where.
    """

    def __init__(self, reason: str, mark: yaml.Mark | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = mark.line + 1 if mark else 1
        self.column = mark.column + 1 if mark else 1


@dataclass(frozen=True, slots=True)
class Located:
    """A document and where its values stand."""

    document: object
    marks: dict[Place, tuple[int, int]] = field(repr=False)

    def mark(self, place: Place) -> tuple[int, int]:
        """Line and column, from 1, of a place, or of the nearest thing around it that is there."""
        while place and place not in self.marks:
            place = place[:-1]
        return self.marks.get(place, (1, 1))


def compose(text: str) -> Located:
    """Read one YAML document.

    Raises:
        MarkedError: It is not YAML, or not plain data.
    """
    loader = yaml.SafeLoader(text.replace("\r\n", "\n"))
    try:
        root = loader.get_single_node()
        builder = _Builder(loader)
        document = builder.value(root, ()) if root is not None else None
    except yaml.MarkedYAMLError as error:
        reason = " ".join(part for part in (error.context, error.problem) if part)
        raise MarkedError(reason, error.problem_mark or error.context_mark) from error
    except yaml.YAMLError as error:
        raise MarkedError(str(error).splitlines()[0], None) from error
    finally:
        loader.dispose()
    return Located(document, builder.marks)


class _Builder:
    """Turns nodes into values and writes down their marks."""

    def __init__(self, loader: yaml.SafeLoader) -> None:
        self._loader = loader
        self._flat: set[int] = set()
        self.marks: dict[Place, tuple[int, int]] = {}

    def value(self, node: yaml.Node, place: Place) -> object:
        """The plain value of a node."""
        if len(place) > _MAX_DEPTH or len(self.marks) > _MAX_VALUES:
            raise MarkedError("is nested too deeply, or too large", node.start_mark)
        self.marks[place] = (node.start_mark.line + 1, node.start_mark.column + 1)
        match node:
            case yaml.MappingNode():
                return self._mapping(node, place)
            case yaml.SequenceNode():
                return [self.value(item, (*place, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, place)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        if id(node) not in self._flat:  # an alias comes here again, its merged keys already in place
            self._refuse_repeated(node)
            self._loader.flatten_mapping(node)
            self._flat.add(id(node))
        return {key.value: self.value(item, (*place, key.value)) for key, item in node.value}

    def _refuse_repeated(self, node: yaml.MappingNode) -> None:
        seen: set[Hashable] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise MarkedError("a key must be text", key.start_mark)
            if key.value in seen and key.tag != _MERGE_TAG:
                raise MarkedError(f"the key {key.value!r} is there twice", key.start_mark)
            seen.add(key.value)

    def _scalar(self, node: yaml.Node, place: Place) -> object:
        if node.tag in _TEXT_TAGS:
            return node.value
        if node.tag not in _PLAIN_TAGS:
            raise MarkedError(f"the tag {node.tag} is not allowed here", node.start_mark)
        if node.tag != _NULL_TAG and _is_text(place):
            return node.value
        return self._loader.construct_object(node)


def _is_text(place: Place) -> bool:
    names = [step.lower() if isinstance(step, str) else "" for step in ("", *place)]
    return names[-1] in _TEXT_FIELDS or names[-2] in _TEXT_MAPS
