"""DeleteAcls (31), versions 0-3: take back what somebody may or may not do.

    1   throttle time, pattern types (KIP-290)      2   flexible      3   resources of the type USER

Behaviour: there is no authorizer, and each of the answers says so (SECURITY_DISABLED), as Kafka's without one. A filter that
holds an element of the type UNKNOWN (0) closes the connection.

Deliberately not done: ACLs themselves; everybody may do everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode
from barnabas.handlers.acl_elements import NO_AUTHORIZER, check_elements
from barnabas.wire.messages.delete_acls import DeleteAclsRequest, DeleteAclsResponse

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 31


def handle(
    _broker: BrokerServices, _context: RequestContext, request: DeleteAclsRequest
) -> DeleteAclsResponse:
    """Answers at once."""
    for wanted in request.filters:
        check_elements(
            wanted.resource_type_filter, wanted.pattern_type_filter, wanted.operation, wanted.permission_type
        )
    return DeleteAclsResponse(
        filter_results=[
            DeleteAclsResponse.DeleteAclsFilterResult(
                error_code=ErrorCode.SECURITY_DISABLED, error_message=NO_AUTHORIZER
            )
            for _ in request.filters
        ]
    )
