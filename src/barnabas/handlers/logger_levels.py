"""Levels of log lines, as the resource BROKER_LOGGER: `root`, and each logger that exists.

They hold until the process ends and for the whole process. Kafka's level TRACE is a level below DEBUG here; FATAL is
Python's CRITICAL. Rules and words of refusal: Kafka's `RuntimeLoggerManager` and `LoggingController`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from barnabas.controller.configs import ConfigOperation
from barnabas.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["alter_levels", "check_node", "levels"]

ROOT = "root"

_LEVELS = {
    "DEBUG": logging.DEBUG,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
    "INFO": logging.INFO,
    "TRACE": 5,
    "WARN": logging.WARNING,
}


def levels() -> dict[str, str]:
    """The level in force of each logger by name."""
    found = {ROOT: _name_of(logging.getLogger().getEffectiveLevel())}
    # A copy, because a worker thread may make a logger meanwhile.
    for name, logger in sorted(logging.Logger.manager.loggerDict.copy().items()):
        if isinstance(logger, logging.Logger):
            found[name] = _name_of(logger.getEffectiveLevel())
    return found


def _name_of(level: int) -> str:
    """The most talkative of Kafka's levels that lets nothing through that this level keeps back."""
    return min(_LEVELS, key=lambda name: (_LEVELS[name] < level, abs(_LEVELS[name] - level)))


def check_node(name: str, node_id: int) -> None:
    """Levels are those of this process.

    Raises:
        KafkaError: INVALID_REQUEST when `name` is not the id of this node.
    """
    try:
        number = int(name)
    except ValueError:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"Node id must be an integer, but it is: {name}"
        ) from None
    if number != node_id:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, f"Unexpected node id. Expected {node_id}, but received {name}"
        )


def alter_levels(operations: Sequence[tuple[str, int, str | None]], *, validate_only: bool) -> None:
    """Sets levels, all of these or none; DELETE gives a logger the level of its parent again.

    Raises:
        KafkaError: INVALID_CONFIG or INVALID_REQUEST, for the first operation that cannot be.
    """
    known = levels()
    for name, number, value in operations:
        _check(known, name, number, value)
    if validate_only:
        return
    for name, number, value in operations:
        logger = logging.getLogger(None if name == ROOT else name)
        logger.setLevel(_LEVELS[value or ""] if number == ConfigOperation.SET else logging.NOTSET)


def _check(known: dict[str, str], name: str, number: int, value: str | None) -> None:
    if number in {ConfigOperation.APPEND, ConfigOperation.SUBTRACT}:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"{ConfigOperation(number).name} operation is not allowed for the BROKER_LOGGER resource",
        )
    if number not in {ConfigOperation.SET, ConfigOperation.DELETE}:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST,
            f"Unknown operation type {number} is not allowed for the BROKER_LOGGER resource",
        )
    if name not in known:
        raise KafkaError(ErrorCode.INVALID_CONFIG, f"Logger {name} does not exist!")
    if number == ConfigOperation.SET and value not in _LEVELS:
        raise KafkaError(
            ErrorCode.INVALID_CONFIG,
            f"Cannot set the log level of {name} to {value} as it is not a supported log level. "
            f"Valid log levels are {', '.join(_LEVELS)}",
        )
    if number == ConfigOperation.DELETE and name == ROOT:
        raise KafkaError(
            ErrorCode.INVALID_REQUEST, "Removing the log level of the root logger is not allowed"
        )
