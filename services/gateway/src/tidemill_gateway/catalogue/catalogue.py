"""The Services of the platform: SQL holds them, DEFINITIONS tells everybody, memory answers the hot routes.

Effects of a change come in an order that may break off anywhere and be repeated: secrets, buckets, SQL, then the bus.
What SQL has and the bus has not is told again at start and whenever telling failed (`run`).
"""

from __future__ import annotations

import asyncio
import hmac
import secrets as randomness
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import structlog

from tidemill_common.bus import Log, WorkQueue
from tidemill_common.contracts.service import DEFINED, Service
from tidemill_common.errors import NotFoundError, TransientError
from tidemill_common.fdl import ParsedService, parse_service
from tidemill_common.secrets import SecretRecord, SecretStore
from tidemill_gateway.catalogue.admission import check_buckets, check_image, check_size, check_update
from tidemill_gateway.catalogue.buckets import Buckets
from tidemill_gateway.catalogue.changes import changed_fields, changed_secrets
from tidemill_gateway.catalogue.definition import Definition, Revision
from tidemill_gateway.catalogue.errors import NameTakenError
from tidemill_gateway.catalogue.places import Places
from tidemill_gateway.catalogue.rows import ServiceRows
from tidemill_gateway.catalogue.secret_values import merged
from tidemill_gateway.catalogue.setting_rows import SettingRows

log = structlog.get_logger(__name__)

ADMIN: Final = "cluster_admin"
"""Owner of what the admin applies, as in OSCAR."""
_RETRY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueRules:
    """What the platform sets for all Services."""

    namespace: str = "oscar-svc"
    """Shown as each Service's namespace."""
    system_bucket: str = "tidemill"


class Catalogue:
    """Knows every Service, and changes them."""

    def __init__(
        self,
        *,
        rows: ServiceRows,
        settings: SettingRows,
        places: Places,
        buckets: Buckets,
        secrets: SecretStore,
        bus_log: Log,
        queue: WorkQueue,
        rules: CatalogueRules,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_token: Callable[[], str] = lambda: randomness.token_hex(32),
    ) -> None:
        self._rows = rows
        self.settings = settings
        self.buckets = buckets
        self.rules = rules
        self._places = places
        self._secrets = secrets
        self._log = bus_log
        self._queue = queue
        self._now = now
        self._new_token = new_token
        self._known: dict[str, Definition] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._untold: dict[str, Revision] = {}
        self._telling = asyncio.Event()

    def service_of_token(self, name: str, token: str) -> Service | None:
        """The Service of this name if the token is its own, compared in constant time."""
        definition = self._known.get(name)
        if definition is None or not hmac.compare_digest(definition.token.encode(), token.encode()):
            return None
        return definition.service

    def get_cached(self, name: str) -> Service | None:
        """The Service of this name, from memory."""
        definition = self._known.get(name)
        return None if definition is None else definition.service

    async def get(self, name: str) -> Definition | None:
        """The Service of this name, from SQL."""
        return await self._rows.get(name)

    async def all(self) -> list[Definition]:
        """Every Service, by name."""
        return await self._rows.all()

    async def revisions(self, name: str) -> list[Revision]:
        """What happened to a name, newest first, also after removal."""
        return await self._rows.revisions(name)

    async def was_removed(self, name: str) -> bool:
        """Whether there was one of this name that was removed, before the one that is there."""
        return await self._rows.was_removed(name)

    async def create(self, document: Mapping[str, object], *, who: str, owner: str = ADMIN) -> Definition:
        """Define a Service.

        Raises:
            InvalidInputError: The document is not a valid Service; says where.
            ImageRefusedError, BucketRefusedError: The platform does not allow it.
            NameTakenError: There is a Service of this name.
            TransientError: A store or the bus does not answer; apply it again.
        """
        parsed, token = self._parsed(document, owner), self._new_token()
        name = parsed.service.name
        async with self._locks[name]:
            await self._check(parsed.service)
            if await self._rows.get(name) is not None:
                raise NameTakenError("A service with the provided name already exists")
            await self._finish_telling(name)
            await self._prepare_new(parsed, token)
            return await self._add(parsed.service, token, who)

    async def update(self, document: Mapping[str, object], *, who: str) -> Definition:
        """Replace a Service's definition; its token, owner and namespace stay. Without a difference nothing happens.

        Raises:
            NotFoundError: There is no such Service.
            InvalidInputError: The document is not a valid Service, or changes what cannot change.
            ConflictError: Somebody else changed it at the same time.
            ImageRefusedError, BucketRefusedError, TransientError: As for `create`.
        """
        name = self._parsed(document, ADMIN).service.name
        async with self._locks[name]:
            before = await self._existing(name)
            parsed = self._parsed(document, before.service.owner)
            check_update(before.service, parsed.service)
            await self._check(parsed.service)
            stored = await self._secrets.get(name) or SecretRecord()
            record = merged(stored, parsed.secrets, token=before.token)
            changed = changed_fields(before.service, parsed.service) + changed_secrets(stored, record)
            await self._secrets.put(name, record)
            await self._places.prepare(parsed.service, record)
            return await self._replace(before, parsed.service, changed, who)

    async def remove(self, name: str, *, who: str) -> Service:
        """Take a Service out, with what waits for it and its secrets; its data stays.

        Raises:
            NotFoundError: There is no such Service.
            TransientError: It is removed, but not everybody is told yet; that goes on in the background.
        """
        async with self._locks[name]:
            before = await self._existing(name)
            number = before.revision + 1
            revision = Revision(
                name=before.service.name, number=number, at=self._now(), who=who, changed=(), removed=True
            )
            await self._rows.remove(revision, expected=before.revision)
            await self._tell(revision, None)
        return before.service

    async def load(self) -> None:
        """Bring all Services into memory; the hot routes know none before."""
        self._known = {definition.service.name: definition for definition in await self._rows.all()}

    async def run(self) -> None:
        """Keep memory as fresh as SQL, whichever replica changes it, and tell what was not told. Until cancelled."""
        await self.load()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_persist(self._follow), name="catalogue-follow")
            tasks.create_task(_persist(self._tell_untold), name="catalogue-tell")

    def _parsed(self, document: Mapping[str, object], owner: str) -> ParsedService:
        parsed = parse_service(document, owner=owner)
        service = parsed.service.model_copy(update={"namespace": self.rules.namespace})
        return replace(parsed, service=service)

    async def _existing(self, name: str) -> Definition:
        if (definition := await self._rows.get(name)) is None:
            raise NotFoundError(f"there is no service {name}")
        return definition

    async def _check(self, service: Service) -> None:
        check_image(service.image, await self.settings.allowed_repositories())
        check_size(service)
        check_buckets(service, system_bucket=self.rules.system_bucket)

    async def _prepare_new(self, parsed: ParsedService, token: str) -> None:
        name = parsed.service.name
        record = merged(SecretRecord(), parsed.secrets, token=token)
        await self._secrets.put(name, record)
        try:
            await self._places.prepare(parsed.service, record)
        except BaseException:
            await self._secrets.remove(name)
            raise

    async def _add(self, service: Service, token: str, who: str) -> Definition:
        number, at = await self._rows.last_number(service.name) + 1, self._now()
        definition = Definition(service=service, token=token, revision=number, created_at=at, updated_at=at)
        revision = _revision(definition, who, changed_fields(None, service))
        await self._rows.insert(definition, revision)
        await self._tell(revision, definition)
        return definition

    async def _replace(self, before: Definition, service: Service, changed: tuple[str, ...], who: str) -> Definition:
        if not changed:
            await self._finish_telling(service.name)
            return before
        after = replace(before, service=service, revision=before.revision + 1, updated_at=self._now())
        revision = _revision(after, who, changed)
        await self._rows.replace(after, revision, expected=before.revision)
        await self._tell(revision, after)
        return after

    async def _follow(self) -> None:
        async with self._log.read(DEFINED, follow=True) as records:
            async for record in records:
                if not self._knows(record.body.name, record.body.revision):
                    await self._refresh(record.body.name, record.body.revision)

    def _knows(self, name: str, revision: int) -> bool:
        known = self._known.get(name)
        return known is not None and known.revision >= revision

    async def _refresh(self, name: str, revision: int) -> None:
        newest = await self._rows.get(name)
        if self._knows(name, revision):  # this replica changed it while SQL answered
            return
        if newest is None:
            self._known.pop(name, None)
        else:
            self._known[name] = newest

    async def _tell_untold(self) -> None:
        await self._find_untold()
        while True:
            for name in list(self._untold):
                async with self._locks[name]:
                    await self._finish_telling(name)
            self._telling.clear()
            await self._telling.wait()

    async def _find_untold(self) -> None:
        async with self._log.read(DEFINED) as records:
            told = {record.body.name: record.body.revision async for record in records}
        for revision in await self._rows.newest():
            if told.get(revision.name, 0) < revision.number:
                self._untold.setdefault(revision.name, revision)

    async def _tell(self, revision: Revision, definition: Definition | None) -> None:
        if definition is None:
            self._known.pop(revision.name, None)
        else:
            self._known[revision.name] = definition
        self._untold[revision.name] = revision
        try:
            await self._finish_telling(revision.name)
        except BaseException:
            self._telling.set()
            raise

    async def _finish_telling(self, name: str) -> None:
        if (revision := self._untold.get(name)) is None:
            return
        message_id = f"definition.{name}.{revision.number}.{revision.at.isoformat()}"
        await self._log.append(DEFINED, revision.published(), key=name, message_id=message_id)
        if revision.removed:
            await self._queue.purge(revision.name)
            await self._secrets.remove(name)
        del self._untold[name]


def _revision(definition: Definition, who: str, changed: tuple[str, ...]) -> Revision:
    return Revision(
        name=definition.service.name,
        number=definition.revision,
        at=definition.updated_at,
        who=who,
        changed=changed,
        service=definition.service,
    )


async def _persist(work: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await work()
        except TransientError as error:
            log.warning("catalogue waits for the bus", error=str(error))
        await asyncio.sleep(_RETRY_SECONDS)
