"""Issues Workers' identities with a key that can issue nothing else: the server holds what the role may do."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tidemill_common.bus.addresses import service_token, shard_of
from tidemill_common.bus.nats.claims import scoped_token
from tidemill_common.bus.nats.credentials import Credentials
from tidemill_common.bus.nats.identities import SERVICE_TAG, SHARD_TAG, worker_identity
from tidemill_common.bus.nats.nkeys import Key, Kind
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.errors import InvalidInputError, UnavailableError


class IssuerFile(BaseModel):
    """What whoever issues Workers' identities keeps as a file. Written by `tidemill keys`."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    account: str
    """The account's public key."""
    seed: str = Field(repr=False)
    """Of the signing key that has the role `worker`."""


class WorkerIssuer:
    """Issues identities of one installation.

    Args:
        shards: As in BusSettings: an identity is for its Service's shard.
    """

    def __init__(self, file: IssuerFile, *, shards: int) -> None:
        self._account = file.account
        self._key = Key.of_seed(file.seed)
        self._shards = shards

    @classmethod
    def read(cls, path: Path, *, shards: int) -> WorkerIssuer:
        """From a file.

        Raises:
            UnavailableError: It cannot be read.
            InvalidInputError: It is something else.
        """
        try:
            return cls(IssuerFile.model_validate_json(path.read_bytes()), shards=shards)
        except OSError as error:
            raise UnavailableError(f"read {path}: {error}") from error
        except (ValidationError, InvalidInputError) as error:
            raise InvalidInputError(f"{path} has no key that issues identities") from error

    def issue(self, service: ServiceName, *, now: datetime, lifetime: timedelta) -> Credentials:
        """A new identity for the Workers of one Service.

        Raises:
            InvalidInputError: That is no Service's name.
        """
        user = Key.generate(Kind.USER)
        tags = {SERVICE_TAG: service_token(service), SHARD_TAG: str(shard_of(service, self._shards))}
        token = scoped_token(
            self._key,
            user.public,
            account=self._account,
            name=worker_identity(service),
            tags=tags,
            now=now,
            expires_at=now + lifetime,
        )
        return Credentials(token, user)
