"""`python -m tidemill.platform.compose_files DIR EARLIER`: what the containers of docker-compose.yml read.

DIR has a volume for each container, and none sees another's: its credentials of the bus, its passwords. All follow from
two files in `keys`, which are made once. What follows from the bus's keys is written again when this version makes
something else of them; the rest is an operator's to change, and stays as it is.

EARLIER is where versions whose bus knew one password kept theirs. It is read, never changed: DIR gets the same
passwords and records, and the bus's Streams, which lie in `bus/jetstream`, the account of the new keys.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from tidemill.errors import CliError
from tidemill.platform.adoption import accounts_with_streams, adopt_streams
from tidemill.platform.keys import SERVER_FILE, WORKERS_FILE, BusKeys, credentials_file, make_keys
from tidemill.platform.layout import read_model, write_private
from tidemill_common.secrets import PLATFORM, S3Credentials, SecretRecord

KEYS: Final = "keys"
"""The volume that only this command mounts."""
RECORDS: Final = "secrets"
"""The volume with the records of Services: the gateway writes it, Workers read it."""
PASSWORDS_FILE: Final = "passwords.json"
_DONE: Final = "done"
"""In `keys`: all that an earlier version kept has been taken over."""
_BUS: Final = "bus"
_BUS_ADDRESS: Final = ("nats", 4222)
_S3_FILE, _TOKENS_FILE = "s3.json", "events-tokens.json"
_ACCESS_KEY: Final = "tidemill"
_COMPONENTS_USER: Final = 10001
"""Of the images (deploy/images/Dockerfile)."""
_OWNERS: Final = {
    KEYS: 0,
    "nats": 0,
    "store": 0,
    "postgresql": 0,
    "streams": _COMPONENTS_USER,
    "gateway": _COMPONENTS_USER,
    "storage-bridge": _COMPONENTS_USER,
    "scheduler": _COMPONENTS_USER,
    RECORDS: _COMPONENTS_USER,
}
_NATS_CONF: Final = f"""max_payload: 1MB
jetstream {{ limits {{ default_max_consumers: 100000 }} }}
include ./{SERVER_FILE}
"""

Files = Mapping[tuple[str, str], str]
"""(volume, name) -> content."""


class Passwords(BaseModel):
    """All that is not the bus's."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    administrator: str = Field(repr=False)
    database: str = Field(repr=False)
    store: str = Field(repr=False)
    events: str = Field(repr=False)

    @classmethod
    def generate(cls) -> Passwords:
        """New ones."""
        return cls(**{name: secrets.token_hex(24) for name in cls.model_fields})

    @classmethod
    def of_earlier(cls, earlier: Path) -> Passwords | None:
        """Those of an earlier version; None: there was none.

        Raises:
            CliError: A file of it is missing or damaged.
        """
        if not (earlier / "done").is_file():
            return None
        try:
            (identity,) = json.loads((earlier / _S3_FILE).read_text())["identities"][:1]
            return cls(
                administrator=(earlier / RECORDS / "admin-password").read_text(),
                database=(earlier / "postgresql").read_text(),
                store=identity["credentials"][0]["secretKey"],
                events=next(iter(json.loads((earlier / RECORDS / _TOKENS_FILE).read_text())), ""),
            )
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise CliError(f"{earlier} is damaged, restore it: {error!r}") from error


def prepare(directory: Path, earlier: Path) -> None:
    """Have every file as it should be; running containers notice nothing of a second time.

    Raises:
        CliError: Files that are there are damaged, or the bus has data that no password is known to.
    """
    for volume in _OWNERS:
        (directory / volume).mkdir(exist_ok=True)
    passwords = _passwords(directory, earlier)
    keys = make_keys(directory / KEYS)
    _adopt(directory / _BUS, keys)
    done = directory / KEYS / _DONE
    kept = {} if done.exists() else _kept_files(earlier)
    for place, text in bus_files(keys).items():
        _write(directory, place, text)
    for place, text in {**own_files(passwords), **kept}.items():
        if not directory.joinpath(*place).exists():
            _write(directory, place, text)
    for volume, owner in _OWNERS.items():
        _own(directory / volume, owner, 0o700)
    done.touch()


def bus_files(keys: BusKeys) -> Files:
    """What follows from the bus's keys: trust for its server, and for each component its own identity alone."""
    return {
        ("nats", "nats.conf"): _NATS_CONF,
        ("nats", SERVER_FILE): keys.server_config(),
        ("streams", credentials_file("operator")): keys.component("operator").text(),
        ("gateway", credentials_file("gateway")): keys.component("gateway").text(),
        ("storage-bridge", credentials_file("bridge")): keys.component("bridge").text(),
        ("scheduler", credentials_file("scheduler")): keys.component("scheduler").text(),
        ("scheduler", WORKERS_FILE): keys.issuer().model_dump_json(indent=2),
    }


def own_files(passwords: Passwords) -> Files:
    """What follows from the passwords."""
    credentials = {"accessKey": _ACCESS_KEY, "secretKey": passwords.store}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": _ACCESS_KEY, "credentials": [credentials], "actions": actions}
    store = S3Credentials(
        endpoint="http://store:8333", access_key=_ACCESS_KEY, secret_key=passwords.store, verify=False
    )
    record = SecretRecord(providers={"minio.default": store.model_dump()})
    return {
        ("store", _S3_FILE): json.dumps({"identities": [identity]}),
        ("postgresql", "password"): passwords.database,
        ("gateway", "pgpass"): f"postgresql:5432:tidemill:tidemill:{passwords.database}\n",
        ("gateway", "admin-password"): passwords.administrator,
        ("storage-bridge", _TOKENS_FILE): json.dumps({passwords.events: "webhook"}),
        (RECORDS, f"{PLATFORM}.json"): record.model_dump_json(),
    }


def _kept_files(earlier: Path) -> Files:
    """What an operator or the gateway may have changed in an earlier version's directory."""
    places = {
        ("store", _S3_FILE): earlier / _S3_FILE,
        ("storage-bridge", _TOKENS_FILE): earlier / RECORDS / _TOKENS_FILE,
    }
    records = (path for path in (earlier / RECORDS).glob("*.json") if path.name != _TOKENS_FILE)
    places |= {(RECORDS, path.name): path for path in records}
    return {place: path.read_text() for place, path in places.items() if path.is_file()}


def _passwords(directory: Path, earlier: Path) -> Passwords:
    """Those that are there, else an earlier version's, else new ones; they are kept before anything is made of them."""
    file = directory / KEYS / PASSWORDS_FILE
    passwords = read_model(file, Passwords)
    if passwords is None:
        passwords = Passwords.of_earlier(earlier) or _new_passwords(directory)
        write_private(file, passwords.model_dump_json(indent=2))
    return passwords


def _new_passwords(directory: Path) -> Passwords:
    if accounts_with_streams(directory / _BUS):
        raise CliError(
            "the bus has data, but its passwords are not here: put back .tidemill/compose of the earlier version or "
            "the volume `keys`; or remove all data (docker compose down --volumes)"
        )
    return Passwords.generate()


def _adopt(server: Path, keys: BusKeys) -> None:
    """Let the account have an earlier version's Streams.

    Raises:
        CliError: They belong to a server that runs, or to several accounts.
    """
    if all(account.name == keys.account_id for account in accounts_with_streams(server)):
        return
    if _answers(_BUS_ADDRESS):
        raise CliError("the bus runs on data that has to be moved: stop it first (docker compose stop)")
    adopt_streams(server, keys.account_id)


def _answers(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=2).close()
    except OSError:
        return False
    return True


def _write(directory: Path, place: tuple[str, str], text: str) -> None:
    """Whole or not at all, and not when it is as it should be: a container that runs may read it now."""
    volume, name = place
    path = directory / volume / name
    if not path.exists() or path.read_text() != text:
        scratch = path.with_name(f".{name}.new")
        write_private(scratch, text)
        _own(scratch, _OWNERS[volume], 0o600)
        scratch.replace(path)


def _own(path: Path, owner: int, mode: int) -> None:
    # the mode first: without CAP_FOWNER only the owner may change it
    if path.stat().st_mode & 0o777 != mode:
        path.chmod(mode)
    if path.stat().st_uid != owner:
        os.chown(path, owner, owner)


def main(arguments: list[str]) -> int:
    """0: all is as it should be."""
    directory, earlier = map(Path, arguments)
    try:
        prepare(directory, earlier)
    except (CliError, OSError) as error:
        sys.stderr.write(f"prepare: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
