"""What the three requests about ACLs have in common.

Source: `DescribeAclsRequest`, `CreateAclsRequest`, `DeleteAclsRequest` and `AclApis` of Apache Kafka 4.3.
"""

from __future__ import annotations

from barnabas.errors import CloseConnection

__all__ = ["NO_AUTHORIZER", "check_elements"]

NO_AUTHORIZER = "No Authorizer is configured."

_UNKNOWN = 0


def check_elements(*codes: int) -> None:
    """Refuses types of resources and patterns, operations and permissions that are said to be unknown.

    Numbers that no version knows yet are let pass.

    Raises:
        CloseConnection: one of them is UNKNOWN.
    """
    if _UNKNOWN in codes:
        raise CloseConnection("an ACL has an element of the type UNKNOWN")
