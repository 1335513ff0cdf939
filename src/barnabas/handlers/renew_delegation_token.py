"""RenewDelegationToken (39), versions 0-2: keep a token alive (KIP-48).

    1   throttle time      2   flexible

Behaviour: not on a connection that is not authenticated (DELEGATION_TOKEN_REQUEST_NOT_ALLOWED), as in Kafka.

Deliberately not done: tokens themselves, which only speak for a user of SASL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode
from barnabas.wire.messages.renew_delegation_token import (
    RenewDelegationTokenRequest,
    RenewDelegationTokenResponse,
)

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 39

_NEVER = -1


def handle(
    _broker: BrokerServices, _context: RequestContext, _request: RenewDelegationTokenRequest
) -> RenewDelegationTokenResponse:
    """Answers at once."""
    return RenewDelegationTokenResponse(
        error_code=ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED, expiry_timestamp_ms=_NEVER
    )
