"""RemoveRaftVoter (81), version 0: take a node out of the quorum of the metadata log (KIP-853).

Behaviour: refused as by a Kafka whose quorum was fixed when it began (UNSUPPORTED_VERSION), which is what the log of one node is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.handlers.metadata_quorum import refuse_removal
from barnabas.handlers.replies import codes
from barnabas.wire.messages.remove_raft_voter import RemoveRaftVoterRequest, RemoveRaftVoterResponse

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 81


def handle(
    broker: BrokerServices, context: RequestContext, request: RemoveRaftVoterRequest
) -> RemoveRaftVoterResponse:
    """Answers at once."""
    error = refuse_removal(broker, request.cluster_id, request.voter_id, request.voter_directory_id)
    broker.log_refusal(context, f"voter {request.voter_id}", error)
    code, message = codes(error)
    return RemoveRaftVoterResponse(error_code=code, error_message=message)
