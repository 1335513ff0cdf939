"""DescribeCluster (60), versions 0-2: cluster id, controller and brokers.

    1   endpoint type (KIP-919)          2   fenced brokers, when asked for (KIP-1073)

Deliberately not done: controllers as endpoints of their own (endpoint type 2); every broker knows the controller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode
from barnabas.handlers.addresses import address_of
from barnabas.handlers.authorized_operations import CLUSTER_OPERATIONS
from barnabas.wire.messages.describe_cluster import DescribeClusterRequest, DescribeClusterResponse

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 60

_BROKERS, _CONTROLLERS = 1, 2


def handle(
    broker: BrokerServices, context: RequestContext, request: DescribeClusterRequest
) -> DescribeClusterResponse:
    """Answers at once."""
    if request.endpoint_type == _CONTROLLERS:
        return _refused(
            ErrorCode.MISMATCHED_ENDPOINT_TYPE,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER",
        )
    if request.endpoint_type != _BROKERS:
        return _refused(
            ErrorCode.UNSUPPORTED_ENDPOINT_TYPE, f"Unsupported endpoint type {request.endpoint_type}"
        )
    image = broker.image
    response = DescribeClusterResponse(
        error_code=0,
        error_message=None,
        endpoint_type=_BROKERS,
        cluster_id=image.cluster_id,
        controller_id=image.controller_id,
    )
    if request.include_cluster_authorized_operations:
        response.cluster_authorized_operations = CLUSTER_OPERATIONS
    for node in image.brokers.values():
        address = address_of(node, context.connection)
        if address is None or (node.fenced and not request.include_fenced_brokers):
            continue
        host, port = address
        response.brokers.append(
            DescribeClusterResponse.DescribeClusterBroker(
                broker_id=node.id, host=host, port=port, rack=node.rack, is_fenced=node.fenced
            )
        )
    return response


def _refused(code: ErrorCode, message: str) -> DescribeClusterResponse:
    return DescribeClusterResponse(error_code=code, error_message=message, cluster_id="")
