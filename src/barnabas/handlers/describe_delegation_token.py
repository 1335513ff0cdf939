"""DescribeDelegationToken (41), versions 0-3: the tokens that somebody may see (KIP-48).

    1   throttle time      2   flexible      3   who asked for a token (KIP-373)

Behaviour: not on a connection that is not authenticated (DELEGATION_TOKEN_REQUEST_NOT_ALLOWED), as in Kafka.

Deliberately not done: tokens themselves, which only speak for a user of SASL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode
from barnabas.wire.messages.describe_delegation_token import (
    DescribeDelegationTokenRequest,
    DescribeDelegationTokenResponse,
)

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 41


def handle(
    _broker: BrokerServices, _context: RequestContext, _request: DescribeDelegationTokenRequest
) -> DescribeDelegationTokenResponse:
    """Answers at once."""
    return DescribeDelegationTokenResponse(error_code=ErrorCode.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED)
