"""ExpireDelegationToken (40), versions 0-2: end a token, at once or later (KIP-48).

    1   throttle time      2   flexible

Behaviour: not on a connection that is not authenticated (DELEGATION_TOKEN_REQUEST_NOT_ALLOWED), as in Kafka.

Deliberately not done: tokens themselves, which only speak for a user of SASL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode
from barnabas.wire.messages.expire_delegation_token import (
    ExpireDelegationTokenRequest,
    ExpireDelegationTokenResponse,
)

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 40

_NEVER = -1


def handle(
    _broker: BrokerServices, _context: RequestContext, _request: ExpireDelegationTokenRequest
) -> ExpireDelegationTokenResponse:
    """Answers at once."""
    return ExpireDelegationTokenResponse(
        error_code=ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED, expiry_timestamp_ms=_NEVER
    )
