"""DeleteGroups (42), versions 0-2: remove groups that have no members, with all their offsets.

Behaviour: NON_EMPTY_GROUP and GROUP_ID_NOT_FOUND, for each group by itself; the answer waits until the removal is committed.

    1   answers before throttling      2   flexible
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.outcome import settle
from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.delete_groups import DeleteGroupsRequest, DeleteGroupsResponse

if TYPE_CHECKING:
    import asyncio

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 42


def handle(
    broker: BrokerServices, context: RequestContext, request: DeleteGroupsRequest
) -> DeleteGroupsResponse | asyncio.Future[DeleteGroupsResponse]:
    """Deletes the groups that can be deleted."""

    def respond(results: list[DeleteGroupsResponse.DeletableGroupResult]) -> DeleteGroupsResponse:
        for result in results:
            if result.error_code != ErrorCode.NONE:
                broker.log_refusal(
                    context, f"group {result.group_id}", KafkaError(ErrorCode(result.error_code))
                )
        return DeleteGroupsResponse(results=results)

    return settle(
        lambda: broker.group_coordinator.delete_groups(request.groups_names),
        then=respond,
        refuse=lambda error: error_response(request, context.api_version, error),
    )


def error_response(request: DeleteGroupsRequest, version: int, error: KafkaError) -> DeleteGroupsResponse:
    """Every group of the request has the same error."""
    del version
    return DeleteGroupsResponse(
        results=[
            DeleteGroupsResponse.DeletableGroupResult(group_id=group_id, error_code=error.code)
            for group_id in dict.fromkeys(request.groups_names)
        ]
    )
