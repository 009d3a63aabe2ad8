"""Whether a Worker may ask for the retry that it asks for. Pure.

The subject is what the bus lets a Worker's identity say, and names its Service; the body is what the Worker says.
"""

from __future__ import annotations

from tidemill_common.bus import Record
from tidemill_common.contracts.invocation import Invocation
from tidemill_common.contracts.retry import RETRY_ASKED, RetryAsked
from tidemill_common.errors import InvalidMessageError


def checked(record: Record[RetryAsked]) -> RetryAsked:
    """The ask, if all of it is about one Invocation of the Service that the subject names.

    Raises:
        InvalidMessageError: It is not.
    """
    retry = record.body
    invocation = Invocation.decode(retry.invocation)
    if RETRY_ASKED.at(retry.service) != record.subject:
        raise InvalidMessageError(f"a retry of {retry.service} was asked for on {record.subject}")
    if (invocation.service, invocation.id) != (retry.service, retry.invocation_id):
        raise InvalidMessageError(f"a retry of {retry.service} has an Invocation of {invocation.service}")
    return retry
