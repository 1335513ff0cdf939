"""AlterClientQuotas (49), versions 0-1: set and take away quotas of users, client ids and addresses (KIP-546).

    1   flexible

Behaviour: quotas are judged, kept and described as Kafka does it. A host name is looked up, and refused where it leads nowhere.

Deliberately not done yet: throttling. A quota that is set holds nobody back.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from barnabas.controller.client_quotas import IP, QuotaAlteration
from barnabas.errors import KafkaError
from barnabas.handlers.replies import after, codes
from barnabas.wire.messages.alter_client_quotas import AlterClientQuotasRequest, AlterClientQuotasResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from barnabas.handlers.services import BrokerServices, RequestContext
    from barnabas.metadata.image import QuotaEntity

__all__ = ["API_KEY", "handle"]

API_KEY = 49


async def handle(
    broker: BrokerServices, context: RequestContext, request: AlterClientQuotasRequest
) -> AlterClientQuotasResponse:
    """Answers once all quotas that can be changed are."""
    alterations = [
        QuotaAlteration(
            # A type that is named twice has the later name, as in Kafka.
            tuple(sorted({part.entity_type: part.entity_name for part in entry.entity}.items())),
            [(operation.key, None if operation.remove else operation.value) for operation in entry.ops],
        )
        for entry in request.entries
    ]
    hosts = set()
    for name in {name for entity, _ in alterations for kind, name in entity if kind == IP and name}:
        if await _leads_somewhere(broker, name):
            hosts.add(name)

    def answer(results: Mapping[QuotaEntity, KafkaError | None] | KafkaError) -> AlterClientQuotasResponse:
        response = AlterClientQuotasResponse()
        for entity in dict.fromkeys(alteration.entity for alteration in alterations):
            error = results if isinstance(results, KafkaError) else results[entity]
            if error is not None:
                broker.log_refusal(context, "quotas", error)
            code, message = codes(error)
            response.entries.append(
                AlterClientQuotasResponse.EntryData(
                    error_code=code,
                    error_message=message,
                    entity=[
                        AlterClientQuotasResponse.EntityData(entity_type=kind, entity_name=name)
                        for kind, name in entity
                    ],
                )
            )
        return response

    return await after(
        broker,
        lambda: broker.controller.alter_client_quotas(
            alterations, hosts=hosts, validate_only=request.validate_only
        ),
        answer,
    )


async def _leads_somewhere(broker: BrokerServices, name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        return True
    try:
        return bool(await broker.loop.getaddrinfo(name, None, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        return False
