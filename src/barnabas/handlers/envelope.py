"""Envelope (58), version 0: a request that another broker took, for the controller to answer (KIP-590). Between brokers only.

Behaviour: the request inside is answered as if its client had come here; the answer goes back as it is. NOT_CONTROLLER where
this broker does not lead, INVALID_REQUEST for a request that is not to be forwarded or does not parse.

Other than in Kafka, as all brokers of a cluster are of one kind: before the answer stands the offset up to which the controller knew the
metadata log when it answered (int64), so that the other broker can wait until it knows as much; and the principal is its text.
"""

from __future__ import annotations

import importlib
from struct import Struct
from typing import TYPE_CHECKING, Any

from barnabas.errors import CloseConnection, DecodeError, ErrorCode
from barnabas.handlers.registry import HANDLERS
from barnabas.handlers.services import RequestContext
from barnabas.network.context import ConnectionContext
from barnabas.wire.apis import APIS
from barnabas.wire.headers import decode_request_header, encode_response_header
from barnabas.wire.messages.envelope import EnvelopeRequest, EnvelopeResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from barnabas.handlers.services import BrokerServices

__all__ = ["API_KEY", "OFFSET", "handle"]

API_KEY = 58

OFFSET = Struct(">q")
"""What stands before the answer."""

_PARTLY_FORWARDED = frozenset((33, 44))
"""AlterConfigs and IncrementalAlterConfigs: their handlers forward them."""

_RELAYED = frozenset((3, 10))
"""Metadata and FindCoordinator, of a broker that does not know what has become of it."""


def handle(
    broker: BrokerServices, context: RequestContext, request: EnvelopeRequest
) -> EnvelopeResponse | Awaitable[EnvelopeResponse]:
    """Answers when the request inside is answered."""
    if not broker.controller.is_leader:
        return EnvelopeResponse(error_code=ErrorCode.NOT_CONTROLLER)
    frame = memoryview(bytes(request.request_data))
    try:
        header, position = decode_request_header(frame)
        entry = HANDLERS.get(header.api_key)
        if (
            entry is None
            or not (entry.is_forwarded or header.api_key in _PARTLY_FORWARDED or header.api_key in _RELAYED)
            or not entry.min_version <= header.api_version <= entry.max_version
        ):
            return EnvelopeResponse(error_code=ErrorCode.INVALID_REQUEST)
        inner = APIS[header.api_key].request_class.decode(frame, header.api_version, position)
        principal = bytes(request.request_principal or b"").decode()
    except (DecodeError, CloseConnection, UnicodeDecodeError):
        return EnvelopeResponse(error_code=ErrorCode.INVALID_REQUEST)
    inner_context = RequestContext(
        header.api_key,
        header.api_version,
        header.correlation_id,
        header.client_id,
        ConnectionContext(
            connection_id=context.connection.connection_id,
            client_address=(bytes(request.client_host_address).decode("ascii", "replace"), 0),
            local_address=context.connection.local_address,
            listener_name=context.connection.listener_name,
            principal=principal,
        ),
        is_forwarded=True,
    )
    module = importlib.import_module(f"barnabas.handlers.{entry.module}")
    answer = module.handle(broker, inner_context, inner)
    if hasattr(answer, "__await__"):
        return _later(broker, inner_context, answer)
    return _enclose(broker, inner_context, answer)


async def _later(broker: BrokerServices, context: RequestContext, answer: Awaitable[Any]) -> EnvelopeResponse:
    return _enclose(broker, context, await answer)


def _enclose(broker: BrokerServices, context: RequestContext, answer: Any) -> EnvelopeResponse:
    header = encode_response_header(context.api_key, context.api_version, context.correlation_id)
    return EnvelopeResponse(
        response_data=OFFSET.pack(broker.image.offset) + header + answer.encode(context.api_version)
    )
