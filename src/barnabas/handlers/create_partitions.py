"""CreatePartitions (37), versions 0-3: give topics more partitions.

    2   flexible          3   THROTTLING_QUOTA_EXCEEDED (there are no such quotas here yet)

Behaviour: `count` is how many partitions a topic is to have in all; new ones are placed by the controller or as the request
says. The answer comes once they can be used, whatever `timeout_ms` says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.controller.partitions import MorePartitions
from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.replies import after, codes
from barnabas.wire.messages.create_partitions import CreatePartitionsRequest, CreatePartitionsResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 37


def handle(
    broker: BrokerServices, context: RequestContext, request: CreatePartitionsRequest
) -> Awaitable[CreatePartitionsResponse]:
    """Answers once all partitions that can be created are."""
    topics = [
        MorePartitions(
            topic.name,
            topic.count,
            None
            if topic.assignments is None
            else [assignment.broker_ids for assignment in topic.assignments],
        )
        for topic in request.topics
    ]

    def answer(results: Mapping[str, KafkaError | None] | KafkaError) -> CreatePartitionsResponse:
        response = CreatePartitionsResponse()
        for name in dict.fromkeys(topic.name for topic in topics):
            error = results if isinstance(results, KafkaError) else results[name]
            if error is not None:
                broker.log_refusal(context, name, error)
            code, message = codes(error)
            if code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION:
                message = None  # Kafka has no words for it in this API
            response.results.append(
                CreatePartitionsResponse.CreatePartitionsTopicResult(
                    name=name, error_code=code, error_message=message
                )
            )
        return response

    return after(
        broker,
        lambda: broker.controller.create_partitions(topics, validate_only=request.validate_only),
        answer,
    )
