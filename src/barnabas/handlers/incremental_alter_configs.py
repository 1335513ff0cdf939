"""IncrementalAlterConfigs (44), versions 0-1: set, delete, append to and subtract from single settings (KIP-339).

    1   flexible

Behaviour: each resource is changed as a whole or not at all; the answer comes once the change is in force here. A broker
takes changes of its own settings and, under the empty name, of those of all brokers. Log levels (BROKER_LOGGER) are not
stored and hold until the process ends.

Deliberately not done: `alter.config.policy.class.name` (a Java class).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from barnabas.controller.configs import ConfigChange, names_another_broker
from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.config_answers import resource_answers
from barnabas.handlers.forwarding import forward_rest
from barnabas.handlers.logger_levels import alter_levels, check_node
from barnabas.handlers.replies import after
from barnabas.metadata.identifiers import ResourceType
from barnabas.wire.messages.incremental_alter_configs import (
    IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 44


def handle(
    broker: BrokerServices, context: RequestContext, request: IncrementalAlterConfigsRequest
) -> Awaitable[IncrementalAlterConfigsResponse]:
    """Answers once all changes that can be made are."""
    if broker.asks_another_controller:
        # Log levels are changed here, and what names another broker is refused here.
        return forward_rest(
            broker,
            context,
            request,
            _handle_here,
            is_here=lambda resource: (
                resource.resource_type == ResourceType.BROKER_LOGGER
                or names_another_broker(broker.node_id, resource.resource_type, resource.resource_name)
            ),
        )
    return _handle_here(broker, context, request)


def _handle_here(
    broker: BrokerServices, context: RequestContext, request: IncrementalAlterConfigsRequest
) -> Awaitable[IncrementalAlterConfigsResponse]:
    changes = [
        ConfigChange(
            resource.resource_type,
            resource.resource_name,
            [(config.name, config.config_operation, config.value) for config in resource.configs],
        )
        for resource in request.resources
    ]
    mentions = Counter(change[:2] for change in changes)
    of_loggers = {
        number: _alter_levels(broker, change, mentions[change[:2]], validate_only=request.validate_only)
        for number, change in enumerate(changes)
        if change.resource_type == ResourceType.BROKER_LOGGER
    }
    stored = [change for number, change in enumerate(changes) if number not in of_loggers]

    def answer(results: Sequence[KafkaError | None] | KafkaError) -> IncrementalAlterConfigsResponse:
        rest = iter([results] * len(stored) if isinstance(results, KafkaError) else results)
        outcomes = [
            (change, of_loggers[number] if number in of_loggers else next(rest))
            for number, change in enumerate(changes)
        ]
        return IncrementalAlterConfigsResponse(
            responses=resource_answers(
                broker, context, IncrementalAlterConfigsResponse.AlterConfigsResourceResponse, outcomes
            )
        )

    return after(
        broker,
        lambda: broker.controller.incremental_alter_configs(
            stored, validate_only=request.validate_only, is_forwarded=context.is_forwarded
        ),
        answer,
    )


def _alter_levels(
    broker: BrokerServices, change: ConfigChange, mentions: int, *, validate_only: bool
) -> KafkaError | None:
    try:
        if mentions > 1:
            return KafkaError(ErrorCode.INVALID_REQUEST, "Each resource must appear at most once.")
        names = [name for name, _, _ in change.operations]
        if len(set(names)) < len(names):
            return KafkaError(ErrorCode.INVALID_REQUEST, "Error due to duplicate config keys")
        check_node(change.resource_name, broker.node_id)
        alter_levels(change.operations, validate_only=validate_only)
    except KafkaError as error:
        return error
    return None
