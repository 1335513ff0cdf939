"""What a topic may be called. Source: Kafka's `org.apache.kafka.common.internals.Topic`."""

from __future__ import annotations

import re

from barnabas.errors import ErrorCode, KafkaError

__all__ = ["TOPIC_NAME_MAX_LENGTH", "is_valid_topic_name", "unify_collisions", "validate_topic_name"]

TOPIC_NAME_MAX_LENGTH = 249
"""Leaves room in a file name for the partition's number and the mark of a deleted log."""

_VALID = re.compile(rf"(?!\.{{1,2}}\Z)[A-Za-z0-9._-]{{1,{TOPIC_NAME_MAX_LENGTH}}}")


def is_valid_topic_name(name: str) -> bool:
    """Whether a topic may have this name."""
    return _VALID.fullmatch(name) is not None


def validate_topic_name(name: str) -> None:
    """Refuses a name that no topic may have.

    Raises:
        KafkaError: INVALID_TOPIC_EXCEPTION, and why.
    """
    if not is_valid_topic_name(name):
        raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic name is invalid: {_complaint(name)}")


def _complaint(name: str) -> str:
    if not name:
        return "the empty string is not allowed"
    if name in {".", ".."}:
        return f"'{name}' is not allowed"
    if len(name) > TOPIC_NAME_MAX_LENGTH:
        return f"the length of '{name}' is longer than the max allowed length {TOPIC_NAME_MAX_LENGTH}"
    return f"'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"


def unify_collisions(name: str) -> str:
    """The name under which metrics show it: topics that only differ in '.' and '_' look the same there."""
    return name.replace(".", "_")
