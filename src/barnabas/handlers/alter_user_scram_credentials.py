"""AlterUserScramCredentials (51), version 0: add, change and delete credentials of users (KIP-554).

Behaviour: as Kafka judges them; the answer comes once the change is on the disk.

Deliberately not done yet: logins with them (SASL/SCRAM).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.controller.scram_users import ScramDeletion, ScramUpsertion
from barnabas.errors import KafkaError
from barnabas.handlers.replies import after, codes
from barnabas.wire.messages.alter_user_scram_credentials import (
    AlterUserScramCredentialsRequest,
    AlterUserScramCredentialsResponse,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 51


def handle(
    broker: BrokerServices, context: RequestContext, request: AlterUserScramCredentialsRequest
) -> Awaitable[AlterUserScramCredentialsResponse]:
    """Answers once all credentials that can be changed are."""
    deletions = [ScramDeletion(deletion.name, deletion.mechanism) for deletion in request.deletions]
    upsertions = [
        ScramUpsertion(
            upsertion.name,
            upsertion.mechanism,
            upsertion.iterations,
            bytes(upsertion.salt),
            bytes(upsertion.salted_password),
        )
        for upsertion in request.upsertions
    ]

    def answer(results: Mapping[str, KafkaError | None] | KafkaError) -> AlterUserScramCredentialsResponse:
        response = AlterUserScramCredentialsResponse()
        for name in dict.fromkeys(
            [change.name for change in deletions] + [change.name for change in upsertions]
        ):
            error = results if isinstance(results, KafkaError) else results[name]
            if error is not None:
                broker.log_refusal(context, name, error)
            code, message = codes(error)
            response.results.append(
                AlterUserScramCredentialsResponse.AlterUserScramCredentialsResult(
                    user=name, error_code=code, error_message=message
                )
            )
        return response

    return after(broker, lambda: broker.controller.alter_scram_users(deletions, upsertions), answer)
