"""Keys of the bus, and what is made of them: a server's trust, components' credentials, and what issues Workers'.

Everything follows from one file, so making it again changes nothing until a version of tidemill allows something else.
Who holds that file can be anybody on the bus; a server needs only what is public, and the scheduler only a key that can
issue Workers' identities.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from tidemill.platform.layout import read_model, write_private
from tidemill_common.bus.nats.claims import account_token, component_token, operator_token
from tidemill_common.bus.nats.credentials import Credentials
from tidemill_common.bus.nats.identities import COMPONENTS, WORKER, permissions, worker_permissions
from tidemill_common.bus.nats.issuing import IssuerFile
from tidemill_common.bus.nats.nkeys import Key, Kind

KEYS_FILE: Final = "bus-keys.json"
SERVER_FILE: Final = "bus-server.conf"
WORKERS_FILE: Final = "bus-workers.json"
_ACCOUNT_NAME: Final = "tidemill"


def credentials_file(component: str) -> str:
    """Name of the file with one component's credentials."""
    return f"bus-{component}.creds"


class BusKeys(BaseModel):
    """The seeds of one installation's keys."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    made_at: AwareDatetime
    operator: str = Field(repr=False)
    """Signs accounts."""
    account: str = Field(repr=False)
    """Tidemill's: its Streams are in it. Signs components."""
    system: str = Field(repr=False)
    """The server's own account; nobody is in it."""
    workers: str = Field(repr=False)
    """Signs Workers, and nobody else."""
    components: dict[str, str] = Field(repr=False)

    @classmethod
    def generate(cls) -> BusKeys:
        """New ones."""
        return cls(
            made_at=datetime.now(UTC).replace(microsecond=0),
            operator=Key.generate(Kind.OPERATOR).seed,
            account=Key.generate(Kind.ACCOUNT).seed,
            system=Key.generate(Kind.ACCOUNT).seed,
            workers=Key.generate(Kind.ACCOUNT).seed,
            components={name: Key.generate(Kind.USER).seed for name in COMPONENTS},
        )

    @property
    def account_id(self) -> str:
        """The account's public key; also the name of its directory in the server's store."""
        return Key.of_seed(self.account).public

    def server_config(self) -> str:
        """What makes a nats-server trust these keys, and no password: a part of its configuration. Nothing secret."""
        operator, system = Key.of_seed(self.operator), Key.of_seed(self.system).public
        roles = {WORKER: (Key.of_seed(self.workers).public, worker_permissions())}
        trusted = operator_token(operator, name=_ACCOUNT_NAME, system_account=system, now=self.made_at)
        ours = account_token(operator, self.account_id, name=_ACCOUNT_NAME, now=self.made_at, roles=roles)
        servers = account_token(operator, system, name="system", now=self.made_at)
        return (
            f"operator: {trusted}\nsystem_account: {system}\nresolver: MEMORY\n"
            f"resolver_preload {{\n  {self.account_id}: {ours}\n  {system}: {servers}\n}}\n"
        )

    def component(self, name: str) -> Credentials:
        """One component's identity."""
        user = Key.of_seed(self.components[name])
        account = Key.of_seed(self.account)
        token = component_token(account, user.public, name=name, allowed=permissions(name), now=self.made_at)
        return Credentials(token, user)

    def issuer(self) -> IssuerFile:
        """What the scheduler needs to issue Workers' identities."""
        return IssuerFile(account=self.account_id, seed=self.workers)


def kept_keys(directory: Path) -> BusKeys | None:
    """The keys of a directory; None: none were made there.

    Raises:
        CliError: The file is damaged.
    """
    return read_model(directory / KEYS_FILE, BusKeys)


def make_keys(directory: Path) -> BusKeys:
    """Make keys once, and each time what this version of tidemill makes of them.

    Raises:
        CliError: The file with the keys is there, but damaged. It is not replaced: an account's data needs its key.
    """
    keys = kept_keys(directory)
    if keys is None:
        keys = BusKeys.generate()
        write_private(directory / KEYS_FILE, keys.model_dump_json(indent=2))
    write_private(directory / SERVER_FILE, keys.server_config())
    write_private(directory / WORKERS_FILE, keys.issuer().model_dump_json(indent=2))
    for name in keys.components:
        write_private(directory / credentials_file(name), keys.component(name).text())
    return keys
