"""Identities as the server sees them: what a JWT says, what a Worker's role allows, and how a file carries both."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from nacl.signing import VerifyKey
from nats import errors as library

from tidemill_common.bus.addresses import shard_of
from tidemill_common.bus.nats.claims import account_token, component_token, read_claims
from tidemill_common.bus.nats.credentials import Credentials, CredentialsFile
from tidemill_common.bus.nats.identities import COMPONENTS, permissions, worker_permissions
from tidemill_common.bus.nats.issuing import IssuerFile, WorkerIssuer
from tidemill_common.bus.nats.nkeys import Key, Kind
from tidemill_common.contracts.contract import ServiceName
from tidemill_common.errors import InvalidInputError, UnavailableError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ACCOUNT = Key.generate(Kind.ACCOUNT)
SIGNER = Key.generate(Kind.ACCOUNT)
BLUR = ServiceName("blur")


@pytest.fixture
def issuer() -> WorkerIssuer:
    return WorkerIssuer(IssuerFile(account=ACCOUNT.public, seed=SIGNER.seed), shards=4)


def test_a_workers_identity_names_its_service_its_shard_and_its_end(issuer: WorkerIssuer) -> None:
    credentials = issuer.issue(BLUR, now=NOW, lifetime=HOUR)
    claims = credentials.claims
    assert credentials.expires_at == NOW + HOUR
    assert claims["sub"] == credentials.key.public
    assert claims["iss"] == SIGNER.public
    assert claims["nats"]["issuer_account"] == ACCOUNT.public
    expected = {"inbox:_INBOX.worker.blur", "service:blur", f"shard:{shard_of('blur', 4)}"}
    assert set(claims["nats"]["tags"]) == expected


def test_a_workers_identity_has_no_rights_of_its_own(issuer: WorkerIssuer) -> None:
    """They are the role's, which the server has: a server refuses a scoped identity that brings some."""
    assert issuer.issue(BLUR, now=NOW, lifetime=HOUR).claims["nats"].keys() <= {
        "type",
        "version",
        "issuer_account",
        "tags",
    }


def test_each_identity_has_a_key_of_its_own(issuer: WorkerIssuer) -> None:
    first, second = (issuer.issue(BLUR, now=NOW, lifetime=HOUR) for _ in range(2))
    assert first.key.public != second.key.public


@pytest.mark.parametrize("name", ["*", ">", "a.b", "", "a b", "a/../b"])
def test_what_is_no_services_name_gets_no_identity(issuer: WorkerIssuer, name: str) -> None:
    with pytest.raises(InvalidInputError):
        issuer.issue(ServiceName(name), now=NOW, lifetime=HOUR)


def test_a_jwt_is_signed_as_a_whole_by_its_issuer(issuer: WorkerIssuer) -> None:
    content, _, signature = issuer.issue(BLUR, now=NOW, lifetime=HOUR).token.rpartition(".")
    key = VerifyKey(base64.b32decode(SIGNER.public)[1:33])
    key.verify(content.encode(), base64.urlsafe_b64decode(signature + "=="))


def test_equal_statements_are_equal_jwts() -> None:
    """So making an installation's files again changes nothing."""
    user = Key.generate(Kind.USER).public
    tokens = {component_token(ACCOUNT, user, name="x", allowed=permissions("gateway"), now=NOW) for _ in range(3)}
    assert len(tokens) == 1


def test_a_workers_role_names_its_service_in_all_that_belongs_to_one() -> None:
    shared = ("live.reply.*.*",)
    nexts = ("CONSUMER.MSG.NEXT.LIFECYCLE.", "CONSUMER.MSG.NEXT.DEFINITIONS.")
    readers = ("STREAM.INFO.", "CONSUMER.DELETE.", *nexts)
    role = worker_permissions()
    for subject in (*role.publish, *role.subscribe):
        free = subject in shared or subject.removeprefix("$JS.API.").startswith(readers)
        assert free or "{{tag(service)}}" in subject, subject


@pytest.mark.parametrize("right", ["PURGE", "STREAM.DELETE", "STREAM.CREATE", "STREAM.UPDATE", "MSG.DELETE", "MSG.GET"])
def test_a_workers_role_has_no_right_to_change_streams(right: str) -> None:
    assert not [subject for subject in worker_permissions().publish if right in subject]


def test_the_role_stands_in_the_account_and_its_key_signs_nothing_else() -> None:
    roles = {"worker": (SIGNER.public, worker_permissions())}
    operator = Key.generate(Kind.OPERATOR)
    (scope,) = read_claims(account_token(operator, ACCOUNT.public, name="x", now=NOW, roles=roles))["nats"][
        "signing_keys"
    ]
    assert (scope["kind"], scope["key"]) == ("user_scope", SIGNER.public)
    assert scope["template"]["pub"]["allow"] == list(worker_permissions().publish)
    assert scope["template"]["sub"]["allow"] == list(worker_permissions().subscribe)


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_jwt_fits_into_a_servers_control_line(component: str) -> None:
    user = Key.generate(Kind.USER).public
    assert len(component_token(ACCOUNT, user, name=component, allowed=permissions(component), now=NOW)) < 3500


def test_a_credentials_file_says_what_it_was_made_of(issuer: WorkerIssuer) -> None:
    credentials = issuer.issue(BLUR, now=NOW, lifetime=HOUR)
    again = Credentials.parse(credentials.text())
    assert (again.token, again.key.seed) == (credentials.token, credentials.key.seed)
    assert again.inbox_prefix == "_INBOX.worker.blur"


def test_credentials_of_others_answer_on_the_common_inbox() -> None:
    user = Key.generate(Kind.USER)
    token = component_token(ACCOUNT, user.public, name="x", allowed=permissions("x"), now=NOW)
    body = read_claims(token)
    assert Credentials(token, user).inbox_prefix == "_INBOX.x"
    assert body["nats"]["tags"] == ["inbox:_INBOX.x"]


def test_a_key_that_is_not_the_jwts_is_refused(issuer: WorkerIssuer) -> None:
    mixed = Credentials(issuer.issue(BLUR, now=NOW, lifetime=HOUR).token, Key.generate(Kind.USER))
    with pytest.raises(InvalidInputError, match="not that of their JWT"):
        Credentials.parse(mixed.text())


@pytest.mark.parametrize("text", ["", "-----BEGIN NATS USER JWT-----\nx\n------END NATS USER JWT------\n", "\x00"])
def test_a_file_without_credentials_is_an_error_that_nats_py_survives(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bus.creds"
    path.write_text(text)
    with pytest.raises(library.Error):
        CredentialsFile(path).token()


def test_a_file_is_read_again_each_time(tmp_path: Path, issuer: WorkerIssuer) -> None:
    path = tmp_path / "bus.creds"
    file = CredentialsFile(path)
    seen = set()
    for _ in range(2):
        path.write_text(issuer.issue(BLUR, now=NOW, lifetime=HOUR).text())
        seen.add(bytes(file.token()))
        assert base64.b64decode(file.signature("nonce")) == Credentials.parse(path.read_text()).key.sign(b"nonce")
    assert len(seen) == 2


def test_the_file_of_a_key_that_issues_is_named_when_it_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "bus-workers.json"
    with pytest.raises(UnavailableError, match=r"bus-workers\.json"):
        WorkerIssuer.read(path, shards=4)
    path.write_text('{"account": "A", "seed": "S"}')
    with pytest.raises(InvalidInputError, match=r"bus-workers\.json has no key"):
        WorkerIssuer.read(path, shards=4)
