"""ElectLeaders (43), versions 0-2: give partitions to their preferred leader, or to any that lives.

    1   unclean elections (KIP-460), an error for the whole answer      2   flexible

Behaviour: null partitions mean all of them; those that need no election are left out of the answer then. A partition that has
the leader it should have gets ELECTION_NOT_NEEDED. The answer comes once the leaders are elected; a time-out of 0 or less is over
before that (REQUEST_TIMED_OUT).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.replies import after, codes
from barnabas.wire.messages.elect_leaders import ElectLeadersRequest, ElectLeadersResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from barnabas.controller.elections import Election
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 43

_Results = ElectLeadersResponse.ReplicaElectionResult
_Result = ElectLeadersResponse.PartitionResult


def handle(
    broker: BrokerServices, context: RequestContext, request: ElectLeadersRequest
) -> ElectLeadersResponse | Awaitable[ElectLeadersResponse]:
    """Answers once the leaders are elected."""
    wanted = None
    if request.topic_partitions is not None:
        wanted = [(topic.topic, topic.partitions) for topic in request.topic_partitions]

    def answer(results: list[tuple[str, list[Election]]] | KafkaError) -> ElectLeadersResponse:
        response = ElectLeadersResponse()
        if isinstance(results, KafkaError):
            broker.log_refusal(context, "elections", results)
            code, message = codes(results)
            if context.api_version > 0:
                response.error_code = code
            for topic, indexes in wanted or ():
                parts = [
                    _Result(partition_id=index, error_code=code, error_message=message) for index in indexes
                ]
                response.replica_election_results.append(_Results(topic=topic, partition_result=parts))
            return response
        for topic, elections in results:
            parts = []
            for election in elections:
                code, message = codes(election.error)
                parts.append(
                    _Result(partition_id=election.partition_index, error_code=code, error_message=message)
                )
            response.replica_election_results.append(_Results(topic=topic, partition_result=parts))
        return response

    if wanted == []:
        return ElectLeadersResponse()
    if request.timeout_ms <= 0:
        return answer(KafkaError(ErrorCode.REQUEST_TIMED_OUT))
    return after(broker, lambda: broker.controller.elect_leaders(request.election_type, wanted), answer)
