"""ListConfigResources (74), versions 0-1: what has settings that can be described.

0   client metrics subscriptions only (then named ListClientMetricsResources, KIP-714)
1   groups, brokers, broker loggers and topics too, all of them unless types are given (KIP-1142)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode
from barnabas.metadata.identifiers import ResourceType
from barnabas.wire.messages.list_config_resources import (
    ListConfigResourcesRequest,
    ListConfigResourcesResponse,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from barnabas.handlers.services import BrokerServices, RequestContext
    from barnabas.metadata.image import MetadataImage

__all__ = ["API_KEY", "handle"]

API_KEY = 74

_ALL = (
    ResourceType.GROUP,
    ResourceType.CLIENT_METRICS,
    ResourceType.BROKER_LOGGER,
    ResourceType.BROKER,
    ResourceType.TOPIC,
)


def handle(
    broker: BrokerServices, context: RequestContext, request: ListConfigResourcesRequest
) -> ListConfigResourcesResponse:
    """Answers at once."""
    types: Iterable[int] = _ALL
    if context.api_version == 0:
        types = (ResourceType.CLIENT_METRICS,)
    elif request.resource_types:
        if any(number not in _ALL for number in request.resource_types):
            return ListConfigResourcesResponse(error_code=ErrorCode.UNSUPPORTED_VERSION)
        types = [known for known in _ALL if known in request.resource_types]
    return ListConfigResourcesResponse(
        config_resources=[
            ListConfigResourcesResponse.ConfigResource(resource_name=name, resource_type=number)
            for number in types
            for name in _names(broker.image, number)
        ]
    )


def _names(image: MetadataImage, resource_type: int) -> Iterable[str]:
    if resource_type == ResourceType.TOPIC:
        return image.topics
    if resource_type in {ResourceType.BROKER, ResourceType.BROKER_LOGGER}:
        return [str(broker_id) for broker_id in image.brokers]
    return [name for number, name in image.configs if number == resource_type]
