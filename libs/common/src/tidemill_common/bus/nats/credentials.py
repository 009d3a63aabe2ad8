"""Credentials files (`.creds`): a user's JWT and the key that proves it. Read again at each connect, for they expire.

https://docs.nats.io/using-nats/developer/connecting/creds
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from nats import errors as library

from tidemill_common.bus.nats.claims import Claims, read_claims
from tidemill_common.bus.nats.identities import INBOX, INBOX_TAG
from tidemill_common.bus.nats.nkeys import Key, Kind
from tidemill_common.errors import InvalidInputError

_BLOCK: Final = re.compile(r"-----BEGIN (NATS USER JWT|USER NKEY SEED)-----\s*(\S+)\s*-----")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client shows the server."""

    token: str
    key: Key

    @classmethod
    def parse(cls, text: str) -> Credentials:
        """Read a file's content.

        Raises:
            InvalidInputError: It has no user's JWT, or no key that fits.
        """
        blocks = dict(_BLOCK.findall(text))
        try:
            found = cls(blocks["NATS USER JWT"], Key.of_seed(blocks["USER NKEY SEED"]))
        except KeyError as error:
            raise InvalidInputError(f"credentials without {error}") from None
        if found.key.kind is not Kind.USER or found.claims.get("sub") != found.key.public:
            raise InvalidInputError("credentials whose key is not that of their JWT")
        return found

    def text(self) -> str:
        """A file's content."""
        return (
            f"-----BEGIN NATS USER JWT-----\n{self.token}\n------END NATS USER JWT------\n\n"
            "Whoever has the following key can act with this identity: keep it secret.\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{self.key.seed}\n------END USER NKEY SEED------\n"
        )

    @property
    def claims(self) -> Claims:
        """What the JWT says."""
        return read_claims(self.token)

    @property
    def expires_at(self) -> datetime | None:
        """When the server ends its connections; None: never."""
        seconds = self.claims.get("exp")
        return datetime.fromtimestamp(seconds, UTC) if seconds else None

    @property
    def inbox_prefix(self) -> str:
        """Where its answers come: what the JWT's tags say, else where everybody's come."""
        tags = self.claims.get("nats", {}).get("tags", ())
        start = f"{INBOX_TAG}:"
        return next((tag.removeprefix(start) for tag in tags if tag.startswith(start)), INBOX)


class CredentialsFile:
    """Credentials as a connection asks for them: the file as it is now."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Credentials:
        """The content.

        Raises:
            OSError: The file cannot be read.
            InvalidUserCredentialsError: It has no credentials. An error of nats-py, which then tries again later.
        """
        try:
            return Credentials.parse(self._path.read_text())
        except (InvalidInputError, UnicodeDecodeError) as error:
            raise library.InvalidUserCredentialsError from error

    def token(self) -> bytearray:
        """For nats-py's `user_jwt_cb`."""
        return bytearray(self.read().token, "ascii")

    def signature(self, nonce: str) -> bytes:
        """For nats-py's `signature_cb`."""
        return base64.b64encode(self.read().key.sign(nonce.encode()))
