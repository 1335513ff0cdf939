"""SaslAuthenticate (36), versions 0-2: one step of an authentication.

    1   how long it lasts (KIP-368)      2   flexible

Behaviour: on a listener that asks nobody who they are nobody can say it (ILLEGAL_SASL_STATE), as in Kafka.

Deliberately not done: SASL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode
from barnabas.wire.messages.sasl_authenticate import SaslAuthenticateRequest, SaslAuthenticateResponse

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 36


def handle(
    _broker: BrokerServices, _context: RequestContext, _request: SaslAuthenticateRequest
) -> SaslAuthenticateResponse:
    """Answers at once."""
    return SaslAuthenticateResponse(
        error_code=ErrorCode.ILLEGAL_SASL_STATE,
        # Whoever needs no authentication has passed it; so Kafka has it.
        error_message="SaslAuthenticate request received after successful authentication",
    )
