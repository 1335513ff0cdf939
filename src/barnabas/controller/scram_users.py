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
    records: dict[str, Any] = {}
    results: dict[str, KafkaError | None] = {}
    changes: list[ScramDeletion | ScramUpsertion] = [*deletions, *upsertions]
    for change in changes:
        name = change.name
        if results.get(name) is not None:
            continue
        if records.pop(name, None) is not None:
            results[name] = KafkaError(
                ErrorCode.DUPLICATE_RESOURCE, "A user credential cannot be altered twice in the same request"
            )
            continue
        try:
            records[name] = (
                _deletion(image, change) if isinstance(change, ScramDeletion) else _upsertion(change)
            )
            results[name] = None
        except KafkaError as error:
            results[name] = error
    return list(records.values()), results


def _check(name: str, mechanism: int) -> None:
    if not name:
        raise KafkaError(ErrorCode.UNACCEPTABLE_CREDENTIAL, "Username must not be empty")
    if mechanism not in MECHANISMS:
        raise KafkaError(ErrorCode.UNSUPPORTED_SASL_MECHANISM, "Unknown SCRAM mechanism")


def _deletion(image: MetadataImage, change: ScramDeletion) -> RemoveUserScramCredentialRecord:
    _check(change.name, change.mechanism)
    if (change.name, change.mechanism) not in image.scram_credentials:
        raise KafkaError(
            ErrorCode.RESOURCE_NOT_FOUND, "Attempt to delete a user credential that does not exist"
        )
    return RemoveUserScramCredentialRecord(name=change.name, mechanism=change.mechanism)


def _upsertion(change: ScramUpsertion) -> UserScramCredentialRecord:
    _check(change.name, change.mechanism)
    if change.iterations < ITERATIONS_MIN:
        raise KafkaError(ErrorCode.UNACCEPTABLE_CREDENTIAL, "Too few iterations")
    if change.iterations > ITERATIONS_MAX:
        raise KafkaError(ErrorCode.UNACCEPTABLE_CREDENTIAL, "Too many iterations")
    if not change.salted_password:
        # An empty key is none for Java's HMAC, and Kafka has no better word for it.
        raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR)
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
