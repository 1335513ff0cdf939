"""ApiVersions (18), versions 0-4: which APIs, versions and features this broker has.

    1   throttle time      3   flexible; software name and version of the client (KIP-511), features (KIP-584)
    4   features that start at version 0 may be announced

Behaviour: what only brokers ask of each other is told only to a broker of the cluster. A version that we do not know is answered in version 0 with UNSUPPORTED_VERSION and the range of this API, so that the client
asks again (the dispatcher does this, since such a request can not be decoded). Produce is announced from 0 on though only 3 and
later hold records that we take: older librdkafka looks for it (KAFKA-18659).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode
from barnabas.handlers.registry import announced_versions
from barnabas.metadata.features import SUPPORTED_FEATURES
from barnabas.wire.api import BROKER_SOFTWARE
from barnabas.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle", "unsupported_version_response"]

API_KEY = 18

_TELEMETRY = frozenset((71, 72))

# ApiVersionsRequest.SOFTWARE_NAME_VERSION_PATTERN of Kafka.
_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


def handle(
    broker: BrokerServices, context: RequestContext, request: ApiVersionsRequest
) -> ApiVersionsResponse:
    """Tells all versions and features, and remembers what the client calls itself."""
    version = context.api_version
    if version >= 3:
        name, software_version = request.client_software_name, request.client_software_version
        if not (_SOFTWARE.fullmatch(name) and _SOFTWARE.fullmatch(software_version)):
            return ApiVersionsResponse(error_code=ErrorCode.INVALID_REQUEST, api_keys=[])
        context.connection.client_software_name = name
        context.connection.client_software_version = software_version
    response = ApiVersionsResponse(
        api_keys=[
            key
            for key in _api_keys(
                between_brokers=broker.serves_brokers(context.connection)
                and context.connection.client_software_name == BROKER_SOFTWARE
            )
            if key.api_key not in _TELEMETRY or broker.client_telemetry.is_received
        ]
    )
    if version >= 3:
        image = broker.image
        response.supported_features = [
            ApiVersionsResponse.SupportedFeatureKey(name=feature, min_version=low, max_version=high)
            for feature, (low, high) in SUPPORTED_FEATURES.items()
            # Before version 4 clients take a range that starts at 0 for an error (KAFKA-17011).
            if low > 0 or version >= 4
        ]
        response.finalized_features = [
            ApiVersionsResponse.FinalizedFeatureKey(
                name=feature, max_version_level=level, min_version_level=level
            )
            for feature, level in image.features.items()
            if level > 0
        ]
        response.finalized_features_epoch = image.offset
    return response


def unsupported_version_response() -> ApiVersionsResponse:
    """The answer, in version 0, to a version of ApiVersions that we do not know (KIP-511)."""
    return ApiVersionsResponse(
        error_code=ErrorCode.UNSUPPORTED_VERSION,
        api_keys=[key for key in _api_keys() if key.api_key == API_KEY],
    )


def _api_keys(*, between_brokers: bool = False) -> list[ApiVersionsResponse.ApiVersion]:
    return [
        ApiVersionsResponse.ApiVersion(api_key=key, min_version=low, max_version=high)
        for key, (low, high) in announced_versions(between_brokers=between_brokers).items()
    ]
