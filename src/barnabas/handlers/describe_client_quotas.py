"""DescribeClientQuotas (48), versions 0-1: the quotas of users, client ids and addresses (KIP-546).

    1   flexible

Behaviour: no components mean all quotas; each further one narrows the answer. `strict` leaves out entities that have more
types than were asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.controller.client_quotas import QuotaFilter, describe_client_quotas
from barnabas.errors import KafkaError
from barnabas.handlers.replies import codes
from barnabas.wire.messages.describe_client_quotas import (
    DescribeClientQuotasRequest,
    DescribeClientQuotasResponse,
)

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 48


def handle(
    broker: BrokerServices, context: RequestContext, request: DescribeClientQuotasRequest
) -> DescribeClientQuotasResponse:
    """Answers at once."""
    components = [(part.entity_type, part.match_type, part.match) for part in request.components]
    try:
        found = describe_client_quotas(broker.image, QuotaFilter(components, request.strict))
    except KafkaError as error:
        broker.log_refusal(context, "quotas", error)
        code, message = codes(error)
        return DescribeClientQuotasResponse(error_code=code, error_message=message, entries=None)
    return DescribeClientQuotasResponse(
        entries=[
            DescribeClientQuotasResponse.EntryData(
                entity=[
                    DescribeClientQuotasResponse.EntityData(entity_type=kind, entity_name=name)
                    for kind, name in entity
                ],
                values=[
                    DescribeClientQuotasResponse.ValueData(key=key, value=value)
                    for key, value in values.items()
                ],
            )
            for entity, values in found
        ]
    )
