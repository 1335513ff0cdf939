"""ListTransactions (66), versions 0-1: the transactional ids that this broker coordinates (KIP-664).

    1   those whose transaction is older than some time (KIP-994)

Behaviour: see `coordinators.transaction.describe`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.transaction.describe import TransactionFilter
from barnabas.errors import KafkaError
from barnabas.wire.messages.list_transactions import ListTransactionsRequest, ListTransactionsResponse

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 66


def handle(
    broker: BrokerServices, context: RequestContext, request: ListTransactionsRequest
) -> ListTransactionsResponse:
    """Lists what the filters leave."""
    try:
        wanted = TransactionFilter(
            request.producer_id_filters, request.state_filters, request.duration_filter
        )
        states = broker.transaction_coordinator.list_transactions(wanted)
    except KafkaError as error:
        broker.log_refusal(context, "transactions", error)
        return error_response(request, context.api_version, error)
    return ListTransactionsResponse(unknown_state_filters=wanted.unknown_states, transaction_states=states)


def error_response(
    request: ListTransactionsRequest, version: int, error: KafkaError
) -> ListTransactionsResponse:
    """The whole has an error."""
    del request, version
    return ListTransactionsResponse(error_code=error.code)
