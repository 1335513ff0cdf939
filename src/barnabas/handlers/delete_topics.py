"""DeleteTopics (20), versions 0-6: delete topics by name, or by id.

    3   TOPIC_DELETION_DISABLED (INVALID_REQUEST before)      5   error messages
    4   flexible                                               6   topic ids (KIP-516)

Behaviour: the answer comes once the topics are gone from the cluster's metadata, whatever `timeout_ms` says; their files are
deleted afterwards (`file.delete.delay.ms`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.replies import after, brief, codes
from barnabas.metadata.identifiers import ZERO_ID
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from barnabas.handlers.services import BrokerServices, RequestContext
    from barnabas.metadata.image import MetadataImage

__all__ = ["API_KEY", "handle"]

API_KEY = 20

_Result = DeleteTopicsResponse.DeletableTopicResult


def handle(
    broker: BrokerServices, context: RequestContext, request: DeleteTopicsRequest
) -> DeleteTopicsResponse | Awaitable[DeleteTopicsResponse]:
    """Answers once all topics that can be deleted are."""
    version = context.api_version
    states = request.topics
    if version < 6:
        states = [DeleteTopicsRequest.DeleteTopicState(name=name) for name in request.topic_names]
    if not broker.config["delete.topic.enable"]:
        error = KafkaError(ErrorCode.TOPIC_DELETION_DISABLED, "Topic deletion is disabled.")
        if version < 3:
            error = KafkaError(ErrorCode.INVALID_REQUEST, "Topic deletion is disabled.")
        broker.log_refusal(context, brief(state.name or state.topic_id.hex() for state in states), error)
        return DeleteTopicsResponse(
            responses=[_result(state.name, state.topic_id, error) for state in states]
        )
    found, responses = _find(broker.image, states)

    def answer(deleted: Mapping[bytes, KafkaError | None] | KafkaError) -> DeleteTopicsResponse:
        for topic_id, name in found.items():
            error = deleted if isinstance(deleted, KafkaError) else deleted[topic_id]
            if error is not None:
                broker.log_refusal(context, name, error)
            responses.append(_result(name, topic_id, error))
        return DeleteTopicsResponse(responses=responses)

    return after(broker, lambda: broker.controller.delete_topics(found), answer)


def _find(
    image: MetadataImage, states: list[DeleteTopicsRequest.DeleteTopicState]
) -> tuple[dict[bytes, str], list[DeleteTopicsResponse.DeletableTopicResult]]:
    """The ids and names of what is to be deleted, and the answers about everything else."""
    responses = []
    names: Counter[str] = Counter()
    ids: Counter[bytes] = Counter()
    for state in states:
        if state.name is None and state.topic_id == ZERO_ID:
            error = KafkaError(ErrorCode.INVALID_REQUEST, "Neither topic name nor id were specified.")
            responses.append(_result(None, ZERO_ID, error))
        elif state.name is None:
            ids[state.topic_id] += 1
        elif state.topic_id == ZERO_ID:
            names[state.name] += 1
        else:
            error = KafkaError(ErrorCode.INVALID_REQUEST, "You may not specify both topic name and topic id.")
            responses.append(_result(state.name, state.topic_id, error))
    found: dict[bytes, str] = {}
    for topic_id, count in ids.items():
        topic = image.topic_by_id(topic_id)
        if count > 1:
            error = KafkaError(ErrorCode.INVALID_REQUEST, "Duplicate topic id.")
            responses.append(_result(None, topic_id, error))
        elif topic is None:
            responses.append(_result(None, topic_id, KafkaError(ErrorCode.UNKNOWN_TOPIC_ID)))
        else:
            found[topic_id] = topic.name
    for name, count in names.items():
        topic = image.topics.get(name)
        if count > 1:
            error = KafkaError(ErrorCode.INVALID_REQUEST, "Duplicate topic name.")
            responses.append(_result(name, ZERO_ID, error))
        elif topic is None:
            responses.append(_result(name, ZERO_ID, KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)))
        elif topic.id in ids:
            found.pop(topic.id, None)
            error = KafkaError(
                ErrorCode.INVALID_REQUEST, "The provided topic name maps to an ID that was already supplied."
            )
            responses.append(_result(name, topic.id, error))
        else:
            found[topic.id] = name
    return found, responses


def _result(
    name: str | None, topic_id: bytes, error: KafkaError | None
) -> DeleteTopicsResponse.DeletableTopicResult:
    code, message = codes(error)
    return _Result(name=name, topic_id=topic_id, error_code=code, error_message=message)
