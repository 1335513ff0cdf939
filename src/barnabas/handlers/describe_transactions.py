"""DescribeTransactions (65), version 0: the state of transactional ids (KIP-664).

Behaviour: see `coordinators.transaction.describe`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import KafkaError
from barnabas.wire.messages.describe_transactions import (
    DescribeTransactionsRequest,
    DescribeTransactionsResponse,
)

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "error_response", "handle"]

API_KEY = 65

_State = DescribeTransactionsResponse.TransactionState


def handle(
    broker: BrokerServices, context: RequestContext, request: DescribeTransactionsRequest
) -> DescribeTransactionsResponse:
    """Describes each id that is asked for."""
    states = []
    for transactional_id in request.transactional_ids:
        try:
            states.append(broker.transaction_coordinator.describe(transactional_id))
        except KafkaError as error:
            broker.log_refusal(context, transactional_id, error)
            states.append(_refused(transactional_id, error))
    return DescribeTransactionsResponse(transaction_states=states)


def _refused(transactional_id: str, error: KafkaError) -> _State:
    return _State(transactional_id=transactional_id, error_code=error.code)


def error_response(
    request: DescribeTransactionsRequest, version: int, error: KafkaError
) -> DescribeTransactionsResponse:
    """Every id of the request has the same error."""
    del version
    return DescribeTransactionsResponse(
        transaction_states=[_refused(each, error) for each in request.transactional_ids]
    )
