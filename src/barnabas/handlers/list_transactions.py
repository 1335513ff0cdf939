"""ListTransactions (66), versions 0-2: the transactional ids that this broker coordinates (KIP-664).

    1   those whose transaction is older than some time (KIP-994)      2   those whose id matches a pattern as a whole (KIP-1152)

Behaviour: see `coordinators.transaction.describe`. Patterns have the syntax of RE2, as in Kafka.

Deliberately not done: ids with other characters than ASCII match no pattern.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.coordinators.regular_expressions import Expression, ExpressionError, WorkLimit
from barnabas.coordinators.transaction.describe import TransactionFilter
from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.list_transactions import ListTransactionsRequest, ListTransactionsResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 66

_WORK_MAX = 1_000_000
"""Instructions that a pattern may take over all ids: a fraction of a second."""


def handle(
    broker: BrokerServices, context: RequestContext, request: ListTransactionsRequest
) -> ListTransactionsResponse:
    """Lists what the filters leave."""
    try:
        wanted = TransactionFilter(
            request.producer_id_filters,
            request.state_filters,
            request.duration_filter,
            _matcher(request.transactional_id_pattern),
        )
        states = broker.transaction_coordinator.list_transactions(wanted)
    except KafkaError as error:
        broker.log_refusal(context, "transactions", error)
        return error_response(request, context.api_version, error)
    except ExpressionError as error:
        refusal = KafkaError(ErrorCode.INVALID_REGULAR_EXPRESSION, str(error))
        broker.log_refusal(context, "transactions", refusal)
        return error_response(request, context.api_version, refusal)
    return ListTransactionsResponse(unknown_state_filters=wanted.unknown_states, transaction_states=states)


def _matcher(pattern: str | None) -> Callable[[str], bool] | None:
    if not pattern:
        return None
    expression = Expression(pattern)
    limit = WorkLimit(_WORK_MAX)
    return lambda transactional_id: expression.matches(transactional_id, limit)


def error_response(
    request: ListTransactionsRequest, version: int, error: KafkaError
) -> ListTransactionsResponse:
    """The whole has an error."""
    del request, version
    return ListTransactionsResponse(error_code=error.code)
