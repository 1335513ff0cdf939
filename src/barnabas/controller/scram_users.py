"""Users of SCRAM (RFC 5802) and their credentials: what is refused and why, and the records of what is not. Pure.

A client sends the salted password; what is kept are the two keys that follow from it, by which a login can be checked and
not made.

Refusals and their words: `ScramControlManager` and `ScramImage` of Apache Kafka 4.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.errors import ErrorCode, KafkaError
from barnabas.wire.messages.metadata.remove_user_scram_credential_record import (
    RemoveUserScramCredentialRecord,
)
from barnabas.wire.messages.metadata.user_scram_credential_record import UserScramCredentialRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from barnabas.metadata.image import MetadataImage

__all__ = ["MECHANISMS", "ScramDeletion", "ScramUpsertion", "alter_scram_users"]

MECHANISMS = {1: "sha256", 2: "sha512"}
"""The hash of each mechanism, by its number."""

ITERATIONS_MIN, ITERATIONS_MAX = 4096, 16384


class ScramDeletion(NamedTuple):
    """A credential that is to go."""

    name: str
    mechanism: int


class ScramUpsertion(NamedTuple):
    """A credential that is to be added, or to take the place of another."""

    name: str
    mechanism: int
    iterations: int
    salt: bytes
    salted_password: bytes


def alter_scram_users(
    image: MetadataImage, deletions: Sequence[ScramDeletion], upsertions: Sequence[ScramUpsertion]
) -> tuple[list[Any], dict[str, KafkaError | None]]:
    """The records that change these credentials, and what is wrong with each user, if anything.

    A user may be named once; one that is named twice is not changed at all.
    """
    accepted: dict[str, ScramDeletion | ScramUpsertion] = {}
    results: dict[str, KafkaError | None] = {}
    changes: list[ScramDeletion | ScramUpsertion] = [*deletions, *upsertions]
    for change in changes:
        name = change.name
        if results.get(name) is not None:
            continue
        results[name] = None
        if accepted.pop(name, None) is not None:
            results[name] = KafkaError(
                ErrorCode.DUPLICATE_RESOURCE, "A user credential cannot be altered twice in the same request"
            )
            continue
        try:
            _check(image, change)
        except KafkaError as error:
            results[name] = error
        else:
            accepted[name] = change
    records: list[Any] = []
    for name, change in accepted.items():
        if isinstance(change, ScramDeletion):
            records.append(RemoveUserScramCredentialRecord(name=name, mechanism=change.mechanism))
        elif change.salted_password:
            records.append(_credential(change))
        else:
            # An empty key is none for Java's HMAC, and Kafka has no better word for it.
            results[name] = KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR)
    return records, results


def _check(image: MetadataImage, change: ScramDeletion | ScramUpsertion) -> None:
    if not change.name:
        raise KafkaError(ErrorCode.UNACCEPTABLE_CREDENTIAL, "Username must not be empty")
    if change.mechanism not in MECHANISMS:
        raise KafkaError(ErrorCode.UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism")
    if isinstance(change, ScramDeletion):
        if (change.name, change.mechanism) not in image.scram_credentials:
            raise KafkaError(
                ErrorCode.RESOURCE_NOT_FOUND, "Attempt to delete a user credential that does not exist"
            )
    elif change.iterations < ITERATIONS_MIN:
        raise KafkaError(ErrorCode.UNACCEPTABLE_CREDENTIAL, "Too few iterations")
    elif change.iterations > ITERATIONS_MAX:
        raise KafkaError(ErrorCode.UNACCEPTABLE_CREDENTIAL, "Too many iterations")


def _credential(change: ScramUpsertion) -> UserScramCredentialRecord:
    import hashlib
    import hmac

    digest = MECHANISMS[change.mechanism]
    client_key = hmac.digest(change.salted_password, b"Client Key", digest)
    return UserScramCredentialRecord(
        name=change.name,
        mechanism=change.mechanism,
        salt=change.salt,
        stored_key=hashlib.new(digest, client_key).digest(),
        server_key=hmac.digest(change.salted_password, b"Server Key", digest),
        iterations=change.iterations,
    )
