"""SaslHandshake (17), versions 0-1: choose how to authenticate.

    1   what follows is SaslAuthenticate rather than bare frames (KIP-152)

Behaviour: on a listener that asks nobody who they are there is nothing to choose (ILLEGAL_SASL_STATE), as in Kafka.

Deliberately not done: SASL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode
from barnabas.wire.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 17


def handle(
    _broker: BrokerServices, _context: RequestContext, _request: SaslHandshakeRequest
) -> SaslHandshakeResponse:
    """Answers at once."""
    return SaslHandshakeResponse(error_code=ErrorCode.ILLEGAL_SASL_STATE)
