"""`partition.metadata`: the id of the topic whose partition a directory holds.

    version: 0
    topic_id: mhq6X9m7QKG3cC9Z6Sbk3Q

A topic that is deleted and created again has a new id, so a directory that was left over is not taken for the new one.

Source: `PartitionMetadataFile` of Apache Kafka 4.3; KIP-516.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.wire.primitives import ZERO_UUID, uuid_from_text, uuid_to_text

if TYPE_CHECKING:
    from pathlib import Path

    from barnabas.log.files import Files

__all__ = ["PARTITION_METADATA", "encode_partition_metadata", "read_topic_id"]

PARTITION_METADATA = "partition.metadata"


def encode_partition_metadata(topic_id: bytes) -> bytes:
    """The content of the file."""
    return f"version: 0\ntopic_id: {uuid_to_text(topic_id)}".encode()


def read_topic_id(files: Files, directory: Path) -> bytes | None:
    """The topic id of a partition's directory.

    None if there is none: a crash left the file out, torn or empty, or the topic is older than topic ids. Raises OSError.
    """
    try:
        content = files.read_file(directory / PARTITION_METADATA)
    except FileNotFoundError:
        return None
    fields = {
        name.strip(): value.strip()
        for name, colon, value in (line.partition(":") for line in content.decode("latin-1").splitlines())
        if colon
    }
    if fields.get("version") != "0":
        return None
    try:
        topic_id = uuid_from_text(fields.get("topic_id", ""))
    except ValueError:
        return None
    return None if topic_id == ZERO_UUID else topic_id
