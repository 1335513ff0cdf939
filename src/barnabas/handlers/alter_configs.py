"""AlterConfigs (33), versions 0-2: replace all settings of a resource (superseded by IncrementalAlterConfigs).

    2   flexible

Behaviour: what the request does not name is reset; the answer comes once the change is in force here. Log levels cannot be
changed this way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.controller.configs import ConfigReplacement, names_another_broker
from barnabas.errors import KafkaError
from barnabas.handlers.config_answers import resource_answers
from barnabas.handlers.forwarding import forward_rest
from barnabas.handlers.replies import after
from barnabas.wire.messages.alter_configs import AlterConfigsRequest, AlterConfigsResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 33


def handle(
    broker: BrokerServices, context: RequestContext, request: AlterConfigsRequest
) -> Awaitable[AlterConfigsResponse]:
    """Answers once all changes that can be made are."""
    if broker.asks_another_controller:
        # What names another broker is refused here.
        return forward_rest(
            broker,
            context,
            request,
            _handle_here,
            is_here=lambda resource: names_another_broker(
                broker.node_id, resource.resource_type, resource.resource_name
            ),
        )
    return _handle_here(broker, context, request)


def _handle_here(
    broker: BrokerServices, context: RequestContext, request: AlterConfigsRequest
) -> Awaitable[AlterConfigsResponse]:
    replacements = [
        ConfigReplacement(
            resource.resource_type,
            resource.resource_name,
            [(config.name, config.value) for config in resource.configs],
        )
        for resource in request.resources
    ]

    def answer(results: Sequence[KafkaError | None] | KafkaError) -> AlterConfigsResponse:
        errors = [results] * len(replacements) if isinstance(results, KafkaError) else results
        outcomes = zip(replacements, errors, strict=True)
        return AlterConfigsResponse(
            responses=resource_answers(
                broker, context, AlterConfigsResponse.AlterConfigsResourceResponse, outcomes
            )
        )

    return after(
        broker,
        lambda: broker.controller.alter_configs(
            replacements, validate_only=request.validate_only, is_forwarded=context.is_forwarded
        ),
        answer,
    )
