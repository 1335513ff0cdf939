"""The names of the directories in a log directory.

    orders-0                                          partition 0 of topic orders
    orders-0.2b1e…(32 hex digits)-delete              was deleted; its files go soon
    orders-0.2b1e…-stray                              belongs to no partition that the cluster knows; kept for its owner
    orders-0.2b1e…-future                             a copy that was to move here from another log directory

Source: `UnifiedLog` and `LocalLog.parseTopicPartitionName` of Apache Kafka 4.3.
"""

from __future__ import annotations

import os
from typing import NamedTuple

__all__ = [
    "DELETE_SUFFIX",
    "FUTURE_SUFFIX",
    "STRAY_SUFFIX",
    "DirectoryName",
    "parse_directory_name",
    "partition_directory_name",
    "suffixed_directory_name",
]

DELETE_SUFFIX = "-delete"
STRAY_SUFFIX = "-stray"
FUTURE_SUFFIX = "-future"
_NAME_LENGTH_MAX = 255


class DirectoryName(NamedTuple):
    """What a directory's name says; `suffix` is empty for a partition in use."""

    topic: str
    partition: int
    suffix: str


def partition_directory_name(topic: str, partition: int) -> str:
    """The name of a partition's directory."""
    return f"{topic}-{partition}"


def suffixed_directory_name(topic: str, partition: int, suffix: str) -> str:
    """A name that nothing else has, for a directory that goes out of use.

    A long topic name is cut, so that a file system takes it.
    """
    tail = f"-{partition}.{os.urandom(16).hex()}{suffix}"
    return topic[: _NAME_LENGTH_MAX - len(tail)] + tail


def parse_directory_name(name: str) -> DirectoryName | None:
    """The parts of a directory's name, or None for one that belongs to no partition."""
    found = ""
    for suffix in (DELETE_SUFFIX, STRAY_SUFFIX, FUTURE_SUFFIX):
        if name.endswith(suffix):
            name, dot, unique = name.removesuffix(suffix).rpartition(".")
            if not dot or not unique:
                return None
            found = suffix
            break
    topic, dash, partition = name.rpartition("-")
    if not topic or not dash or not (partition.isascii() and partition.isdigit()):
        return None
    if partition != str(int(partition)):
        return None
    return DirectoryName(topic, int(partition), found)
