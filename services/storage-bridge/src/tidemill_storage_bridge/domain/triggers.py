"""Which Services an object invokes: all Triggers, indexed by provider and folder.

A look-up walks the folders of the object's path, so it costs the depth of the path whatever the number of Services.
A definition is applied at its position in DEFINITIONS; an older one never replaces a newer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tidemill_common.bus import Position
from tidemill_common.contracts.event import ArtifactRef
from tidemill_common.contracts.service import Service, ServiceDefined, StorageIO


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One Service that an object invokes, and through which Trigger."""

    definition: ServiceDefined
    trigger: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedFolder:
    """An input of a Service."""

    definition: ServiceDefined
    input: StorageIO


@dataclass(slots=True)
class _Known:
    definition: ServiceDefined
    position: Position


@dataclass(slots=True)
class Triggers:
    """The newest definition of each Service, and their inputs by folder."""

    _services: dict[str, _Known] = field(default_factory=dict)
    _folders: dict[tuple[str, str], dict[str, tuple[StorageIO, ...]]] = field(default_factory=dict)
    """(provider, path) -> Service -> its inputs there."""

    def apply(self, definition: ServiceDefined, position: Position) -> None:
        """Take over one record of DEFINITIONS; what is older than what is known changes nothing."""
        known = self._services.get(definition.name)
        if known is not None:
            if known.position >= position:
                return
            self._forget(known.definition)
        self._services[definition.name] = _Known(definition, position)
        for (provider, path), inputs in _by_folder(definition.service).items():
            self._folders.setdefault((provider, path), {})[definition.name] = inputs

    def definition(self, service: str) -> ServiceDefined | None:
        """The newest definition, also of a Service that was removed; None: never heard of."""
        known = self._services.get(service)
        return known.definition if known is not None else None

    def matching(self, artifact: ArtifactRef) -> list[Match]:
        """Each Service that this object invokes, once, by name; the deepest of its matching folders is the Trigger."""
        found: dict[str, str] = {}
        for path in _folders_above(artifact.path):
            for service, inputs in self._folders.get((artifact.provider, path), {}).items():
                if any(entry.matches(artifact) for entry in inputs):
                    found[service] = inputs[0].trigger  # deeper folders come later and win
        return [Match(definition=self._services[name].definition, trigger=found[name]) for name in sorted(found)]

    def watched(self, provider: str | None = None) -> list[WatchedFolder]:
        """The inputs of all Services, or those at one provider."""
        return [
            WatchedFolder(definition=known.definition, input=entry)
            for known in self._services.values()
            if known.definition.service is not None
            for entry in known.definition.service.input
            if provider is None or entry.storage_provider == provider
        ]

    def _forget(self, definition: ServiceDefined) -> None:
        for folder in _by_folder(definition.service):
            services = self._folders[folder]
            del services[definition.name]
            if not services:
                del self._folders[folder]


def _by_folder(service: Service | None) -> dict[tuple[str, str], tuple[StorageIO, ...]]:
    folders: dict[tuple[str, str], tuple[StorageIO, ...]] = {}
    for entry in service.input if service is not None else ():
        folder = (entry.storage_provider, entry.path)
        folders[folder] = (*folders.get(folder, ()), entry)
    return folders


def _folders_above(path: str) -> Iterator[str]:
    """Each folder that holds the object, the bucket first."""
    end = path.find("/")
    while end >= 0:
        yield path[:end]
        end = path.find("/", end + 1)
