"""DescribeAcls (29), versions 0-3: who may do what.

    1   throttle time, pattern types (KIP-290)      2   flexible      3   resources of the type USER

Behaviour: there is no authorizer, which is what the answer says (SECURITY_DISABLED), as Kafka's without one. A filter that
holds an element of the type UNKNOWN (0) closes the connection, as Kafka does with what it cannot parse.

Deliberately not done: ACLs themselves; everybody may do everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode
from barnabas.handlers.acl_elements import check_elements
from barnabas.wire.messages.describe_acls import DescribeAclsRequest, DescribeAclsResponse

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 29


def handle(
    _broker: BrokerServices, _context: RequestContext, request: DescribeAclsRequest
) -> DescribeAclsResponse:
    """Answers at once."""
    check_elements(
        request.resource_type_filter, request.pattern_type_filter, request.operation, request.permission_type
    )
    return DescribeAclsResponse(
        error_code=ErrorCode.SECURITY_DISABLED, error_message="No Authorizer is configured on the broker"
    )
