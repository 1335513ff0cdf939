"""CreateTopics (19), versions 0-7: create topics with their partitions, replicas and settings.

    1   validate_only, error messages                 4   -1 partitions or replicas mean the default (KIP-464; all
    5   settings, partition and replica counts of         versions take it here)
        what was created (KIP-525); flexible          7   topic ids

Behaviour: judged as a whole by the controller; every topic has a result of its own. The answer comes once the topics can
be used, whatever `timeout_ms` says. In answers of version 5 and later each setting has the source that Kafka gives it; the
Java admin client cannot read an answer without.

Deliberately not done: `create.topic.policy.class.name` (a Java class).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.config.describe import describe_topic
from barnabas.controller.topics import NewTopic
from barnabas.errors import KafkaError
from barnabas.handlers.replies import after, brief, codes
from barnabas.wire.messages.create_topics import CreateTopicsRequest, CreateTopicsResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from barnabas.controller.topics import CreatedTopic
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 19

_Result = CreateTopicsResponse.CreatableTopicResult


def handle(
    broker: BrokerServices, context: RequestContext, request: CreateTopicsRequest
) -> Awaitable[CreateTopicsResponse]:
    """Answers once all topics that can be created are."""
    topics = [_new_topic(topic) for topic in request.topics]

    def answer(created: list[CreatedTopic] | KafkaError) -> CreateTopicsResponse:
        if isinstance(created, KafkaError):
            code, message = codes(created)
            broker.log_refusal(context, brief(topic.name for topic in topics), created)
            return CreateTopicsResponse(
                topics=[
                    _Result(name=name, error_code=code, error_message=message)
                    for name in dict.fromkeys(topic.name for topic in topics)
                ]
            )
        return CreateTopicsResponse(topics=[_result(broker, context, topic) for topic in created])

    return after(
        broker, lambda: broker.controller.create_topics(topics, validate_only=request.validate_only), answer
    )


def _new_topic(topic: CreateTopicsRequest.CreatableTopic) -> NewTopic:
    return NewTopic(
        topic.name,
        topic.num_partitions,
        topic.replication_factor,
        [(assignment.partition_index, assignment.broker_ids) for assignment in topic.assignments],
        {config.name: config.value for config in topic.configs},
    )


def _result(
    broker: BrokerServices, context: RequestContext, created: CreatedTopic
) -> CreateTopicsResponse.CreatableTopicResult:
    if created.error is not None:
        broker.log_refusal(context, created.name, created.error)
        code, message = codes(created.error)
        return _Result(name=created.name, error_code=code, error_message=message, configs=[])
    result = _Result(
        name=created.name,
        topic_id=created.topic_id,
        error_code=0,
        error_message=None,
        num_partitions=created.partition_count,
        replication_factor=created.replication_factor,
    )
    if context.api_version >= 5:
        result.configs = [
            CreateTopicsResponse.CreatableTopicConfigs(
                name=entry.name,
                # As it was written: " 70000 ", TRUE. DescribeConfigs tells what it means.
                value=created.configs.get(entry.name, entry.value),
                read_only=entry.read_only,
                config_source=entry.source,
                is_sensitive=entry.sensitive,
            )
            for entry in sorted(describe_topic(broker.config, created.configs))
        ]
    return result
