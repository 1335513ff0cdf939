"""Names and numbers of the cluster's metadata: resource types, well-known topics, reserved ids.

Sources: `org.apache.kafka.common.Uuid`, `common.internals.Topic`, `common.config.ConfigResource.Type`.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "CLUSTER_METADATA_TOPIC",
    "CLUSTER_METADATA_TOPIC_ID",
    "CONSUMER_OFFSETS_TOPIC",
    "DEFAULT_BROKER",
    "INTERNAL_TOPICS",
    "SHARE_GROUP_STATE_TOPIC",
    "TRANSACTION_STATE_TOPIC",
    "UNASSIGNED_DIRECTORY",
    "UNTOLD_DIRECTORIES",
    "ZERO_ID",
    "ResourceType",
]

CONSUMER_OFFSETS_TOPIC = "__consumer_offsets"
TRANSACTION_STATE_TOPIC = "__transaction_state"
SHARE_GROUP_STATE_TOPIC = "__share_group_state"
CLUSTER_METADATA_TOPIC = "__cluster_metadata"

INTERNAL_TOPICS = frozenset({CONSUMER_OFFSETS_TOPIC, TRANSACTION_STATE_TOPIC, SHARE_GROUP_STATE_TOPIC})
"""Topics of the brokers' own; `is_internal` in answers. The metadata log is not a topic that a client can see."""

ZERO_ID = bytes(16)
CLUSTER_METADATA_TOPIC_ID = bytes(15) + b"\x01"
UNASSIGNED_DIRECTORY = bytes(15) + b"\x01"
"""The log directory of a replica whose broker chooses among several (KIP-858)."""
UNTOLD_DIRECTORIES = frozenset({ZERO_ID, UNASSIGNED_DIRECTORY})
"""Directories that are no directory yet; the first stands for replicas from before there were such ids."""

DEFAULT_BROKER = ""
"""The name of the broker resource whose settings hold for all brokers."""


class ResourceType(IntEnum):
    """What a configuration belongs to, by the numbers of the protocol."""

    UNKNOWN = 0
    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32
