"""CreateDelegationToken (38), versions 0-3: a token that speaks for a user (KIP-48).

    1   throttle time      2   flexible      3   tokens for others (KIP-373)

Behaviour: on a connection that is not authenticated nobody can get one (DELEGATION_TOKEN_REQUEST_NOT_ALLOWED), as in Kafka. The
answer names who asked, and for whom.

Deliberately not done: tokens themselves, which only speak for a user of SASL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode
from barnabas.wire.messages.create_delegation_token import (
    CreateDelegationTokenRequest,
    CreateDelegationTokenResponse,
)

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 38

_NEVER = -1


def handle(
    _broker: BrokerServices, context: RequestContext, request: CreateDelegationTokenRequest
) -> CreateDelegationTokenResponse:
    """Answers at once."""
    principal_type, _, principal_name = context.connection.principal.partition(":")
    response = CreateDelegationTokenResponse(
        error_code=ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED,
        principal_type=principal_type,
        principal_name=principal_name,
        issue_timestamp_ms=_NEVER,
        expiry_timestamp_ms=_NEVER,
        max_timestamp_ms=_NEVER,
        token_id="",
        hmac=b"",
    )
    if context.api_version >= 3:
        response.token_requester_principal_type = principal_type
        response.token_requester_principal_name = principal_name
        if request.owner_principal_name:
            if request.owner_principal_type is None:
                response.error_code = ErrorCode.UNKNOWN_SERVER_ERROR  # half an owner: Kafka stumbles over it
            else:
                response.principal_type = request.owner_principal_type
                response.principal_name = request.owner_principal_name
    return response
