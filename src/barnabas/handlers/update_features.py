"""UpdateFeatures (57), versions 0-2: raise and lower the levels that the cluster works at (KIP-584).

    1   kinds of downgrades, validation only (KIP-778)      2   no results of single features (KIP-1022)

Behaviour: all updates are made or none. The answer to a failure names the feature that is to blame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.controller.feature_updates import FeatureUpdate
from barnabas.handlers.replies import after, codes
from barnabas.wire.messages.update_features import UpdateFeaturesRequest, UpdateFeaturesResponse

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from barnabas.errors import KafkaError
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 57

_WITHOUT_RESULTS = 2


def handle(
    broker: BrokerServices, context: RequestContext, request: UpdateFeaturesRequest
) -> Awaitable[UpdateFeaturesResponse]:
    """Answers once the levels are changed."""
    updates = [
        # Version 0 says whether a downgrade is allowed, which Kafka's controllers do not look at.
        FeatureUpdate(update.feature, update.max_version_level, update.upgrade_type)
        for update in request.feature_updates
    ]

    def answer(done: KafkaError | None) -> UpdateFeaturesResponse:
        if done is not None:
            broker.log_refusal(context, "features", done)
            code, message = codes(done)
            return UpdateFeaturesResponse(error_code=code, error_message=message)
        response = UpdateFeaturesResponse(error_message=None)
        if context.api_version < _WITHOUT_RESULTS:
            response.results = [
                # "NONE" is what Kafka says where nothing is wrong.
                UpdateFeaturesResponse.UpdatableFeatureResult(feature=update.name, error_message="NONE")
                for update in updates
            ]
        return response

    return after(
        broker,
        lambda: broker.controller.update_features(updates, validate_only=request.validate_only),
        answer,
    )
