"""CreateAcls (30), versions 0-3: let or forbid somebody to do something.

    1   throttle time, pattern types (KIP-290)      2   flexible      3   resources of the type USER

Behaviour: there is no authorizer, and each of the answers says so (SECURITY_DISABLED), as Kafka's without one. An element of
the type UNKNOWN (0) closes the connection.

Deliberately not done: ACLs themselves; everybody may do everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode
from barnabas.handlers.acl_elements import NO_AUTHORIZER, check_elements
from barnabas.wire.messages.create_acls import CreateAclsRequest, CreateAclsResponse

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 30


def handle(
    _broker: BrokerServices, _context: RequestContext, request: CreateAclsRequest
) -> CreateAclsResponse:
    """Answers at once."""
    for creation in request.creations:
        check_elements(
            creation.resource_type,
            creation.resource_pattern_type,
            creation.operation,
            creation.permission_type,
        )
    return CreateAclsResponse(
        results=[
            CreateAclsResponse.AclCreationResult(
                error_code=ErrorCode.SECURITY_DISABLED, error_message=NO_AUTHORIZER
            )
            for _ in request.creations
        ]
    )
