"""ListGroups (16), versions 0-5: the groups that this broker coordinates.

Behaviour: an administrator asks every broker. While a part of the groups is still being loaded the answer is
COORDINATOR_LOAD_IN_PROGRESS rather than incomplete.

    1   throttle time      3   flexible      4   state, and a filter for it (KIP-518)      5   type, and a filter for it (KIP-848)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import KafkaError
from barnabas.wire.messages.list_groups import ListGroupsRequest, ListGroupsResponse

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 16


def handle(broker: BrokerServices, context: RequestContext, request: ListGroupsRequest) -> ListGroupsResponse:
    """Lists the groups that the filters let pass."""
    try:
        groups = broker.group_coordinator.list_groups(request.states_filter, request.types_filter)
    except KafkaError as error:
        broker.log_refusal(context, "groups", error)
        return error_response(request, context.api_version, error)
    return ListGroupsResponse(groups=groups)


def error_response(request: ListGroupsRequest, version: int, error: KafkaError) -> ListGroupsResponse:
    """Nothing can be listed."""
    del request, version
    return ListGroupsResponse(error_code=error.code)
