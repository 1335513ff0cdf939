"""Requests that only the controller can answer, and that every broker takes (KIP-590).

A broker that does not lead the metadata log puts the request as it came into an Envelope, and gives its client the answer that
comes back, once it knows itself what the controller knew then: a topic that a client was told of can be used here, too. The leading broker answers for itself. While nobody leads, or when the controller does not answer in time, the
client gets NOT_CONTROLLER in the shape of its API.

A broker that is fenced, and whose store is out of reach so that it does not know what has become of what it led (`controller.lifecycle`), has questions about who
leads answered in the same way. Else a client that is connected to nobody else would be sent back to it again and again.

Source: `ForwardingManager` and `EnvelopeUtils` of Apache Kafka.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.envelope import OFFSET
from barnabas.wire.apis import APIS
from barnabas.wire.headers import RequestHeader, decode_response_header, encode_request_header
from barnabas.wire.messages.envelope import EnvelopeRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from barnabas.handlers.services import BrokerServices, RequestContext
    from barnabas.wire.messages.envelope import EnvelopeResponse

    Handle = Callable[[BrokerServices, RequestContext, Any], Any]
    Complete = Callable[[BrokerServices, RequestContext, Any], None]

__all__ = ["forward", "forward_rest", "forwarded", "relayed"]

logger = logging.getLogger(__name__)

_KNOWN_S = 5.0
"""So long an answer waits at most for this broker to know what it says."""

_LEAST_MS, _DEFAULT_MS, _MOST_MS = 1_000, 30_000, 60_000
_RELAY_MS = 1_000


def forwarded(handle: Handle) -> Handle:
    """The handler for all brokers, from that of the controller."""

    def either(broker: BrokerServices, context: RequestContext, request: Any) -> Any:
        if not broker.asks_another_controller:
            return handle(broker, context, request)
        return forward(broker, context, request, handle)

    return either


async def forward(broker: BrokerServices, context: RequestContext, request: Any, handle: Handle) -> Any:
    """The controller's answer; that of `handle` where there is none."""
    timeout_ms = min(max(getattr(request, "timeout_ms", _DEFAULT_MS), _LEAST_MS), _MOST_MS)
    try:
        answer, offset = await _ask_controller(broker, context, request, timeout_ms)
    except KafkaError as error:
        logger.info("request is not forwarded api=%s reason=%s", APIS[context.api_key].name, error)
        return await _answer_here(broker, context, request, handle)
    await _known(broker, offset)
    return answer


async def relayed(
    broker: BrokerServices, context: RequestContext, request: Any, handle: Handle, complete: Complete
) -> Any:
    """The answer that the controller would give its own client, made fit for this one; that of `handle` where there is none soon.

    What it says this broker need not know.

    Args:
        broker: This broker.
        context: Where the request comes from.
        request: What is asked.
        handle: Answers here.
        complete: Takes the controller's answer, and puts into it what only this broker can tell its client: the addresses.
    """
    try:
        answer, _ = await _ask_controller(broker, context, request, _RELAY_MS)
    except KafkaError as error:
        logger.debug("request is not relayed api=%s reason=%s", APIS[context.api_key].name, error)
        return await _answer_here(broker, context, request, handle)
    complete(broker, context, answer)
    return answer


async def _answer_here(broker: BrokerServices, context: RequestContext, request: Any, handle: Handle) -> Any:
    answer = handle(broker, context, request)
    return await answer if hasattr(answer, "__await__") else answer


async def _ask_controller(
    broker: BrokerServices, context: RequestContext, request: Any, timeout_ms: int
) -> tuple[Any, int]:
    """The controller's answer, and the metadata offset that it knew then; raises KafkaError."""
    key, version = context.api_key, context.api_version
    header = encode_request_header(RequestHeader(key, version, context.correlation_id, context.client_id))
    envelope = EnvelopeRequest(
        request_data=bytes(header) + bytes(request.encode(version)),
        request_principal=context.connection.principal.encode(),
        client_host_address=context.connection.client_address[0].encode(),
    )
    response: EnvelopeResponse = await broker.channel.send(envelope, timeout_ms=timeout_ms)
    if response.error_code or response.response_data is None:
        raise KafkaError(ErrorCode(response.error_code))
    data = memoryview(response.response_data)
    (offset,) = OFFSET.unpack_from(data)
    data = data[OFFSET.size :]
    _, position = decode_response_header(data, key, version)
    return APIS[key].response_class.decode(data, version, position), offset


async def forward_rest(
    broker: BrokerServices,
    context: RequestContext,
    request: Any,
    handle: Handle,
    *,
    is_here: Callable[[Any], bool],
) -> Any:
    """The answer to a request for several `resources`: some are this broker's own business, the others the controller's.

    Args:
        broker: This broker.
        context: Where the request comes from.
        request: With `resources` and `validate_only`; its answer has `responses`, in the same order.
        handle: Answers here; awaitable.
        is_here: Whether a resource is this broker's business.
    """
    order = [is_here(resource) for resource in request.resources]

    def part(wanted: bool) -> Any:
        resources = [
            resource for resource, here in zip(request.resources, order, strict=True) if here is wanted
        ]
        return type(request)(resources=resources, validate_only=request.validate_only)

    answers: dict[bool, Iterator[Any]] = {}
    if True in order:
        answers[True] = iter((await handle(broker, context, part(True))).responses)
    if False in order:
        answers[False] = iter((await forward(broker, context, part(False), handle)).responses)
    response_class: Any = APIS[context.api_key].response_class
    return response_class(responses=[next(answers[here]) for here in order])


async def _known(broker: BrokerServices, offset: int) -> None:
    """Waits until this broker has seen the metadata log up to an offset, for a while."""
    if broker.image.offset >= offset:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_KNOWN_S):
            await broker.controller.wait_for(lambda image: image.offset >= offset or None)
