"""DescribeUserScramCredentials (50), version 0: which users have credentials, of which kinds (KIP-554).

Behaviour: null or no names mean all users. Salt and keys are never told.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode
from barnabas.wire.messages.describe_user_scram_credentials import (
    DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
)

if TYPE_CHECKING:
    from barnabas.handlers.services import BrokerServices, RequestContext

__all__ = ["API_KEY", "handle"]

API_KEY = 50

_Result = DescribeUserScramCredentialsResponse.DescribeUserScramCredentialsResult


def handle(
    broker: BrokerServices, _context: RequestContext, request: DescribeUserScramCredentialsRequest
) -> DescribeUserScramCredentialsResponse:
    """Answers at once."""
    found: dict[str, list[DescribeUserScramCredentialsResponse.CredentialInfo]] = {}
    for (name, mechanism), credential in broker.image.scram_credentials.items():
        found.setdefault(name, []).append(
            DescribeUserScramCredentialsResponse.CredentialInfo(
                mechanism=mechanism, iterations=credential.iterations
            )
        )
    mentions = Counter([user.name for user in request.users] if request.users else found.keys())
    response = DescribeUserScramCredentialsResponse()
    for name, times in mentions.items():
        result = _Result(user=name)
        if times > 1:
            result.error_code = ErrorCode.DUPLICATE_RESOURCE
            result.error_message = (
                f"Cannot describe SCRAM credentials for the same user twice in a single request: {name}"
            )
        elif name not in found:
            result.error_code = ErrorCode.RESOURCE_NOT_FOUND
            result.error_message = f"Attempt to describe a user credential that does not exist: {name}"
        else:
            result.credential_infos = sorted(found[name], key=lambda info: info.mechanism)
        response.results.append(result)
    return response
