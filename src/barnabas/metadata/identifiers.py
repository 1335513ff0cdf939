"""Names and numbers of the cluster's metadata: resource types, well-known topics, reserved and random ids.

Sources: `org.apache.kafka.common.Uuid`, `common.internals.Topic`, `common.config.ConfigResource.Type`.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode
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
    "random_cluster_id",
    "random_id",
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

_RESERVED_IDS = 100


class ResourceType(IntEnum):
    """What a configuration belongs to, by the numbers of the protocol."""

    UNKNOWN = 0
    TOPIC = 2
    BROKER = 4
    BROKER_LOGGER = 8
    CLIENT_METRICS = 16
    GROUP = 32


def random_id() -> bytes:
    """16 random bytes in the form of a version 4 UUID; never one of Kafka's reserved ids.

    As Kafka's `Uuid.randomUuid`, none whose text starts with a dash: tools take that for an option.
    """
    while True:
        raw = bytearray(os.urandom(16))
        raw[6] = raw[6] & 0x0F | 0x40
        raw[8] = raw[8] & 0x3F | 0x80
        # The first base64 digit is the top six bits; digit 62 is the dash.
        if raw[0] >> 2 != 62 and int.from_bytes(raw) >= _RESERVED_IDS:
            return bytes(raw)


def random_cluster_id() -> str:
    """A new cluster id: 22 characters of URL-safe base64."""
    return urlsafe_b64encode(random_id()).decode().rstrip("=")
