"""Quotas of users, client ids and addresses: what is refused and why, the records of what is not, and who has which. Pure.

Refusals and their words: `ClientQuotaControlManager` and `ClientQuotasImage` of Apache Kafka 4.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.errors import ErrorCode, KafkaError
from barnabas.metadata.snapshot import quota_record

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from barnabas.metadata.image import MetadataImage, QuotaEntity

__all__ = ["IP", "QuotaAlteration", "QuotaFilter", "alter_client_quotas", "describe_client_quotas"]

USER, CLIENT_ID, IP = "user", "client-id", "ip"
_TYPES = (CLIENT_ID, USER, IP)
"""In the order in which Kafka's messages name them."""

_INT_MAX = 2.0**31 - 1
_LONG_MAX = 2.0**63
_SOME_FRACTION = 1e-6

_OF_USERS = {
    "producer_byte_rate": "LONG",
    "consumer_byte_rate": "LONG",
    "request_percentage": "DOUBLE",
    "controller_mutation_rate": "DOUBLE",
}
_OF_ADDRESSES = {"connection_creation_rate": "INT"}


class QuotaAlteration(NamedTuple):
    """What is to become of the quotas of one entity: pairs of key and value; None takes a quota away."""

    entity: QuotaEntity
    operations: Sequence[tuple[str, float | None]]


class QuotaFilter(NamedTuple):
    """Which entities somebody wants to see.

    Attributes:
        components: Type, kind of match (0 this name, 1 the default, 2 any) and the name for the first kind.
        strict: Whether entities with further types are left out.
    """

    components: Sequence[tuple[str, int, str | None]]
    strict: bool


def alter_client_quotas(
    image: MetadataImage, alterations: Sequence[QuotaAlteration], *, hosts: Collection[str]
) -> tuple[list[Any], dict[QuotaEntity, KafkaError | None]]:
    """The records that change these quotas, and what is wrong with each entity, if anything.

    Args:
        image: What is known.
        alterations: The changes; an entity that is named twice is an error, but its first change is made.
        hosts: The addresses and host names among the entities that lead somewhere.
    """
    records: list[Any] = []
    results: dict[QuotaEntity, KafkaError | None] = {}
    for entity, operations in alterations:
        keys = [key for key, _ in operations]
        if entity in results or len(set(keys)) < len(keys):
            results[entity] = _refusal(f"Ignoring duplicate entity {_named(entity)}")
            continue
        try:
            records += _alter(image, entity, dict(operations), hosts)
        except KafkaError as error:
            results[entity] = error
        else:
            results[entity] = None
    return records, results


def _refusal(message: str) -> KafkaError:
    return KafkaError(ErrorCode.INVALID_REQUEST, message)


def _named(entity: QuotaEntity) -> str:
    order = {kind: number for number, kind in enumerate(_TYPES)}
    parts = sorted(entity, key=lambda part: order.get(part[0], len(order)))
    return (
        "ClientQuotaEntity(entries={"
        + ", ".join(f"{kind}={'null' if name is None else name}" for kind, name in parts)
        + "})"
    )


def _alter(
    image: MetadataImage, entity: QuotaEntity, values: Mapping[str, float | None], hosts: Collection[str]
) -> Iterator[Any]:
    known_keys = _keys(entity, hosts)
    current = image.client_quotas.get(entity, {})
    records = []
    for key, value in values.items():
        if value is None:
            if key in current:
                records.append(quota_record(entity, key, None))
            continue
        _check_value(known_keys, key, value)
        if current.get(key) != value:
            records.append(quota_record(entity, key, value))
    return iter(records)


def _keys(entity: QuotaEntity, hosts: Collection[str]) -> Mapping[str, str]:
    """The keys that such an entity may have, and their types."""
    if not entity:
        raise _refusal("Invalid empty client quota entity")
    names = dict(entity)
    for kind, name in entity:
        if kind not in _TYPES:
            raise _refusal(f"Unhandled client quota entity type: {kind}")
        if name == "":
            raise _refusal(f"Empty {kind} not supported")
    if IP not in names:
        return _OF_USERS
    if len(names) > 1:
        raise _refusal(
            "Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId"
        )
    address = names[IP]
    if address is not None and address not in hosts:
        raise _refusal(f"{address} is not a valid IP or resolvable host.")
    return _OF_ADDRESSES


def _check_value(known_keys: Mapping[str, str], key: str, value: float) -> None:
    """As Kafka compares: a value that is not a number passes all of it."""
    kind = known_keys.get(key)
    if kind is None:
        raise _refusal(f"Invalid configuration key {key}")
    if value <= 0:
        raise _refusal(f"Quota {key} must be greater than 0")
    if kind == "DOUBLE":
        return
    if value > (_INT_MAX if kind == "INT" else _LONG_MAX):
        article = "an" if kind == "INT" else "a"
        raise _refusal(f"Proposed value for {key} is too large for {article} {kind}.")
    if value % 1 > _SOME_FRACTION:
        raise _refusal(f"{key} cannot be a fractional value.")


def describe_client_quotas(
    image: MetadataImage, wanted: QuotaFilter
) -> list[tuple[QuotaEntity, Mapping[str, float]]]:
    """The entities that the filter lets pass, and their quotas.

    Raises:
        KafkaError: INVALID_REQUEST or UNSUPPORTED_VERSION, and why.
    """
    exact: dict[str, str | None] = {}
    any_name: set[str] = set()
    for kind, match_type, name in wanted.components:
        if not kind:
            raise _refusal("Invalid empty entity type.")
        if kind in exact or kind in any_name:
            raise _refusal(f"Entity type {kind} cannot appear more than once in the filter.")
        if kind not in _TYPES:
            raise KafkaError(ErrorCode.UNSUPPORTED_VERSION, f"Unsupported entity type {kind}")
        _add_component(exact, any_name, kind, match_type, name)
    types = exact.keys() | any_name
    if IP in types and len(types) > 1:
        raise _refusal(
            "Invalid entity filter component combination. IP filter component should not be used with user or clientId "
            "filter component."
        )
    return [
        (entity, values)
        for entity, values in image.client_quotas.items()
        if _matches(dict(entity), exact, any_name) and not (wanted.strict and len(entity) != len(types))
    ]


_EXACT, _DEFAULT, _SPECIFIED = 0, 1, 2


def _add_component(
    exact: dict[str, str | None], any_name: set[str], kind: str, match_type: int, name: str | None
) -> None:
    if match_type == _EXACT:
        if name is None:
            raise _refusal("Request specified MATCH_TYPE_EXACT, but set match string to null.")
        exact[kind] = name
    elif match_type in (_DEFAULT, _SPECIFIED):
        if name is not None:
            which = "DEFAULT" if match_type == _DEFAULT else "SPECIFIED"
            raise _refusal(f"Request specified MATCH_TYPE_{which}, but also specified a match string.")
        if match_type == _DEFAULT:
            exact[kind] = None
        else:
            any_name.add(kind)
    else:
        raise _refusal(f"Unknown match type {match_type}")


def _matches(
    names: Mapping[str, str | None], exact: Mapping[str, str | None], any_name: Collection[str]
) -> bool:
    return all(kind in names and names[kind] == name for kind, name in exact.items()) and all(
        kind in names for kind in any_name
    )
