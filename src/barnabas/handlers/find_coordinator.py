"""FindCoordinator (10), versions 0-6: which broker to talk to about a group or a transactional id.

Behaviour: the first request of all creates `__consumer_offsets` or `__transaction_state` and is answered when it is there, where Kafka answers
COORDINATOR_NOT_AVAILABLE and lets the client try again later. A broker that advertises no address is told by the one under
which the client has reached it.

    0   groups             1   key type: 0 groups, 1 transactions; error message      3   flexible
    4   several keys (KIP-699)      5   TRANSACTION_ABORTABLE (KIP-890)               6   key type 2: share groups (KIP-932)

A broker that is left behind (`controller.lifecycle`) has the controller answer, as it knows the leaders of before.

Deliberately not done yet: share groups. Their coordinators are refused with INVALID_REQUEST, as Kafka does where share groups are
turned off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.outcome import combine, settle
from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.addresses import address_by_id
from barnabas.handlers.replies import MALFORMED
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 10

_SEVERAL_KEYS_FROM = 4
_GROUP, _TRANSACTION, _SHARE = 0, 1, 2
_NOT_SERVED = {_SHARE: "share groups are not supported yet"}
_NO_NODE = -1

_Coordinator = FindCoordinatorResponse.Coordinator


def handle(
    broker: BrokerServices, context: RequestContext, request: FindCoordinatorRequest
) -> FindCoordinatorResponse | Awaitable[FindCoordinatorResponse]:
    """Finds the coordinator of each key, and answers in the shape of the version."""
    if broker.is_left_behind():
        from barnabas.handlers.forwarding import relayed

        return relayed(broker, context, request, _answer_here, _put_addresses)
    return _answer_here(broker, context, request)


def _put_addresses(broker: BrokerServices, context: RequestContext, answer: FindCoordinatorResponse) -> None:
    for found in answer.coordinators if context.api_version >= _SEVERAL_KEYS_FROM else [answer]:
        address = address_by_id(broker.image.brokers, found.node_id, context.connection)
        if address is not None:
            found.host, found.port = address


def _answer_here(
    broker: BrokerServices, context: RequestContext, request: FindCoordinatorRequest
) -> FindCoordinatorResponse | asyncio.Future[FindCoordinatorResponse]:
    version = context.api_version
    keys = request.coordinator_keys if version >= _SEVERAL_KEYS_FROM else [request.key]
    return settle(
        lambda: combine([_find(broker, context, request.key_type, key) for key in keys]),
        then=lambda coordinators: _shaped(coordinators, version),
        refuse=lambda error: error_response(request, version, error),
    )


def _find(
    broker: BrokerServices, context: RequestContext, key_type: int, key: str
) -> _Coordinator | asyncio.Future[_Coordinator]:
    def find() -> int | asyncio.Future[int]:
        if key_type == _TRANSACTION:
            return broker.transaction_coordinator.coordinator_id(key)
        if key_type != _GROUP:
            raise KafkaError(
                ErrorCode.INVALID_REQUEST, _NOT_SERVED.get(key_type, f"there is no key type {key_type}")
            )
        return broker.group_coordinator.coordinator_id(key)

    def refuse(error: KafkaError) -> _Coordinator:
        broker.log_refusal(context, f"coordinator of {key}", error)
        if error.code is ErrorCode.INVALID_REQUEST and key_type not in _NOT_SERVED:
            error = KafkaError(error.code, MALFORMED)
        return _refused(key, error)

    def found(node_id: int) -> _Coordinator:
        address = address_by_id(broker.image.brokers, node_id, context.connection)
        if address is None:
            return refuse(
                KafkaError(
                    ErrorCode.COORDINATOR_NOT_AVAILABLE,
                    f"broker {node_id} has no listener {context.connection.listener_name}",
                )
            )
        host, port = address
        return _Coordinator(key=key, node_id=node_id, host=host, port=port, error_message="")

    return settle(find, then=found, refuse=refuse)


def _refused(key: str, error: KafkaError) -> _Coordinator:
    return _Coordinator(
        key=key, node_id=_NO_NODE, port=_NO_NODE, error_code=error.code, error_message=error.message or ""
    )


def _shaped(coordinators: list[_Coordinator], version: int) -> FindCoordinatorResponse:
    if version >= _SEVERAL_KEYS_FROM:
        return FindCoordinatorResponse(coordinators=coordinators)
    (only,) = coordinators
    return FindCoordinatorResponse(
        error_code=only.error_code,
        # Kafka names the absence of an error, too.
        error_message=only.error_message or ErrorCode(only.error_code).name,
        node_id=only.node_id,
        host=only.host,
        port=only.port,
    )


def error_response(
    request: FindCoordinatorRequest, version: int, error: KafkaError
) -> FindCoordinatorResponse:
    """Every key of the request has the same error."""
    keys = request.coordinator_keys if version >= _SEVERAL_KEYS_FROM else [request.key]
    return _shaped([_refused(key, error) for key in keys], version)
