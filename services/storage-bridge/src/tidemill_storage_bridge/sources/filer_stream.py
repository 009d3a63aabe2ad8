"""The filer's metadata stream over gRPC: one call, read until it is cancelled or lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import Message

from tidemill_common.errors import UnavailableError
from tidemill_storage_bridge.sources.filer_pb2 import SubscribeMetadataRequest, SubscribeMetadataResponse

FilerCall: TypeAlias = "grpc.aio.UnaryStreamCall[Message, SubscribeMetadataResponse]"

SILENCE: Final = timedelta(seconds=30)
"""The server sends a heartbeat every 5 s; without any the connection is taken for dead."""
_METHOD: Final = "/filer_pb.SeaweedFiler/SubscribeMetadata"


def subscribe(channel: grpc.aio.Channel, *, prefix: str, since_ns: int) -> FilerCall:
    """Ask for the changes below `prefix` from then on, that instant included."""
    method = channel.unary_stream(
        _METHOD,
        request_serializer=SubscribeMetadataRequest.SerializeToString,
        response_deserializer=SubscribeMetadataResponse.FromString,
    )
    return method(
        SubscribeMetadataRequest(
            client_name="tidemill",
            path_prefix=prefix,
            since_ns=since_ns,
            client_id=random.getrandbits(31),  # the server refuses a client id it believes to be connected still
            client_epoch=1,
            client_supports_batching=True,
            client_supports_idle_heartbeat=True,
        )
    )


async def responses(call: FilerCall) -> AsyncIterator[SubscribeMetadataResponse]:
    """What the server sends, heartbeats included, until the call is cancelled.

    Raises:
        UnavailableError: The connection was lost, or is silent.
    """
    while (response := await _next(call)) is not None:
        yield response


def end(call: FilerCall) -> None:
    """Cancel the call; reading it ends."""
    call.cancel()


async def _next(call: FilerCall) -> SubscribeMetadataResponse | None:
    """The next message; None: we cancelled the call."""
    try:
        async with asyncio.timeout(SILENCE.total_seconds()):
            response = await call.read()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if call.cancelled() and (task is None or not task.cancelling()):
            return None  # grpc answers a cancelled call like this; nobody cancelled us
        raise
    except TimeoutError as error:
        raise UnavailableError(f"follow the filer: silent for {SILENCE}") from error
    except grpc.aio.AioRpcError as error:
        raise UnavailableError(f"follow the filer: {error.code().name}: {error.details()}") from error
    if not isinstance(response, SubscribeMetadataResponse):  # grpc.aio.EOF
        raise UnavailableError("follow the filer: the server ended the stream")
    return response
