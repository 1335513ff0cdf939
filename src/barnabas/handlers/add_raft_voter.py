"""AddRaftVoter (80), versions 0-1: let a node join the quorum of the metadata log (KIP-853).

    1   whether the answer waits until it has joined

Behaviour: refused as by a Kafka whose quorum was fixed when it began (UNSUPPORTED_VERSION), which is what the log of one node is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.handlers.metadata_quorum import refuse_new_voter
from barnabas.handlers.replies import codes
from barnabas.wire.messages.add_raft_voter import AddRaftVoterRequest, AddRaftVoterResponse

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 80


def handle(
    broker: BrokerServices, context: RequestContext, request: AddRaftVoterRequest
) -> AddRaftVoterResponse:
    """Answers at once."""
    error = refuse_new_voter(
        broker,
        request.cluster_id,
        request.voter_id,
        request.voter_directory_id,
        {listener.name: (listener.host, listener.port) for listener in request.listeners},
    )
    broker.log_refusal(context, f"voter {request.voter_id}", error)
    code, message = codes(error)
    return AddRaftVoterResponse(error_code=code, error_message=message)
