"""Answers of two brokers made comparable: without what `tools.differences` says cannot be the same, and nothing else.

`Likeness` turns the answers of one broker into plain values. Ids that a broker makes up become numbers, in the order in which
they are first seen: two brokers that are asked the same have the same numbers.
"""

from __future__ import annotations

import math
import re
import struct

from barnabas.records.checksum import crc32c
from barnabas.wire.message import Structure
from tools.differences import FIELDS, ORDERS, WORDS

__all__ = ["Likeness", "differences"]
__all__ = ["MUST_DIFFER", "UNORDERED", "Likeness", "differences"]

MUST_DIFFER = {
    "cluster_id": "a random id",
    "host": "an address of its own",
    "port": "an address of its own",
    "producer_id": "counted up by each broker for itself; that it is one is compared",
    "session_id": "random; that there is a session is compared",
    "documentation": "our own sentences",
    "log_dir": "a path of its own",
    "total_bytes": "the disk goes on being written to",
    "usable_bytes": "the disk goes on being written to",
    "log_append_time_ms": "the broker's time; that it is given is compared",
}
"""Field of any answer -> why it is not compared."""

UNORDERED = {
    "ProduceResponse.responses": "what was refused comes first in Kafka",
    "TopicProduceResponse.partition_responses": "what was refused comes first in Kafka",
    "FetchResponse.responses": "what was refused comes first in Kafka",
    "FetchableTopicResponse.partitions": "what was refused comes first in Kafka",
    "ListOffsetsTopicResponse.partitions": "what was refused comes first in Kafka",
    "OffsetCommitResponse.topics": "what was refused comes first in Kafka",
    "OffsetCommitResponseTopic.partitions": "what was refused comes first in Kafka",
    "OffsetDeleteResponseTopic.partitions": "what was refused comes first in Kafka",
    "OffsetDeleteResponse.topics": "what was refused comes first in Kafka",
    "MetadataResponse.topics": "a hash map's order in Kafka",
    "CreateTopicsResponse.topics": "a hash map's order in Kafka",
    "CreatableTopicResult.configs": "a hash map's order in Kafka",
    "CreatePartitionsResponse.results": "a hash map's order in Kafka",
    "DeleteTopicsResponse.responses": "a hash map's order in Kafka",
    "DescribeConfigsResult.configs": "a hash map's order in Kafka",
    "AlterConfigsResponse.responses": "a hash map's order in Kafka",
    "IncrementalAlterConfigsResponse.responses": "a hash map's order in Kafka",
    "DescribeLogDirsResult.topics": "a hash map's order in Kafka",
    "DescribeLogDirsTopic.partitions": "a hash map's order in Kafka",
    "ListConfigResourcesResponse.config_resources": "a hash map's order in Kafka",
    "DeleteRecordsResponse.topics": "a hash map's order in Kafka",
    "DeleteRecordsTopicResult.partitions": "a hash map's order in Kafka",
    "DeleteGroupsResponse.results": "a hash map's order in Kafka",
    "DescribedGroup.members": "a hash map's order in Kafka, by random ids",
    "ConsumerGroupDescribeResponse.groups": "a hash map's order in Kafka",
    "Assignment.topic_partitions": "a hash map's order in Kafka, by random ids",
    "TopicPartitions.partitions": "a hash set's order in Kafka",
    "Member.subscribed_topic_names": "a hash set's order in Kafka",
    "JoinGroupResponse.members": "a hash map's order in Kafka, by random ids",
    "ListGroupsResponse.groups": "a hash map's order in Kafka",
    "AlterClientQuotasResponse.entries": "a hash map's order in Kafka",
    "AlterUserScramCredentialsResponse.results": "a hash map's order in Kafka",
    "DescribeClientQuotasResponse.entries": "a hash map's order in Kafka",
    "DescribeUserScramCredentialsResponse.results": "a hash map's order in Kafka",
    "DescribeUserScramCredentialsResult.credential_infos": "a hash map's order in Kafka",
    "EntryData.entity": "a hash map's order in Kafka",
    "EntryData.values": "a hash map's order in Kafka",
    "OffsetFetchResponseTopic.partitions": "a hash map's order in Kafka",
    "OffsetFetchResponseTopics.partitions": "a hash map's order in Kafka",
    "OffsetFetchResponse.topics": "a hash map's order in Kafka",
    "OffsetFetchResponseGroup.topics": "a hash map's order in Kafka",
}
"""List of an answer -> why its order is not compared."""

_ONLY_WHETHER = {
    "producer_id": lambda value: value >= 0,
    "session_id": lambda value: value != 0,
    "log_append_time_ms": lambda value: value >= 0,
}

_WORDS_OF_PRODUCE = ("PartitionProduceResponse", "BatchIndexAndErrorMessage")
"""Where the words are our own: we say why in more cases than Kafka does."""

_MEMBER_ID = re.compile(r"[A-Za-z0-9_-]{22}")
"""Of a consumer group's member for which the broker made it up."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_BAD_SETTING = re.compile(
    r"(Can't (APPEND|SUBTRACT) to key |Invalid value .* for configuration |Unknown topic config name: |Null value not supported ).*",
    re.DOTALL,
)
"""Of several bad settings Kafka names the first in the order of a hash map; `tests/handlers` compares the words."""
_LOG_APPEND_TIME_FLAG = 8


class Likeness:
    """Answers of one broker as plain values.

    Args:
        keep: Whether a topic or group of that name is compared; others on a shared broker are left out of lists.
    """

    def __init__(self, keep=lambda _name: True) -> None:
        self._numbers: dict[object, str] = {bytes(16): "no id"}
        self._keep = keep

    def __call__(self, value, field: str = "", owner: str = ""):
        if field in FIELDS:
            return _ONLY_WHETHER[field](value) if field in _ONLY_WHETHER else "…"
        if f"{owner}.{field}" in WORDS:
            return "…"
        if isinstance(value, Structure):
            kind = type(value).__name__
            return {name: self(getattr(value, name), name, kind) for name in value.__slots__}
        if isinstance(value, list):
            items = [self(item, "", owner) for item in value if self._is_kept(item)]
            return sorted(items, key=repr) if f"{owner}.{field}" in ORDERS else items
        if field == "records":
            return [] if value is None else plain_records(bytes(value))
        if isinstance(value, str):
            if field == "member_id" and _MEMBER_ID.fullmatch(value):
                return self._number(value)
            if field == "error_message":
                value = _BAD_SETTING.sub("a bad setting", value)
            return _UUID.sub(lambda found: self._number(found[0]), value)
        if field == "topic_id":
            return self._number(bytes(value))
        if isinstance(value, float) and math.isnan(value):
            return "NaN"
        return bytes(value) if isinstance(value, memoryview) else value

    def _number(self, made_up) -> str:
        return self._numbers.setdefault(made_up, f"<{len(self._numbers)}>")

    def _is_kept(self, item) -> bool:
        for name in ("name", "group_id", "resource_name", "topic", "topic_name"):
            value = getattr(item, name, None)
            if isinstance(value, str):
                return self._keep(value)
        return True


def plain_records(data: bytes) -> list[str]:
    """Batches in hexadecimal; LogAppendTime and its CRC are the broker's own, and only judged."""
    batches = []
    position = 0
    while position < len(data):
        size = 12 + struct.unpack_from(">i", data, position + 8)[0] if len(data) - position >= 61 else 61
        batch = bytearray(data[position : position + size])
        if len(batch) == size and batch[22] & _LOG_APPEND_TIME_FLAG:
            crc = struct.unpack_from(">I", batch, 17)[0]
            assert crc == crc32c(memoryview(batch)[21:]), "a batch with LogAppendTime has the wrong CRC"
            batch[17:21] = bytes(4)
            batch[35:43] = bytes(8)
        batches.append(batch.hex())
        position += size
    return batches


def differences(theirs, ours, path="") -> list[str]:
    """Where two plain values differ, a line each."""
    if isinstance(theirs, dict) and isinstance(ours, dict) and theirs.keys() == ours.keys():
        return [line for name in theirs for line in differences(theirs[name], ours[name], f"{path}.{name}")]
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return [
            line
            for index, (a, b) in enumerate(zip(theirs, ours, strict=True))
            for line in differences(a, b, f"{path}[{index}]")
        ]
    return [] if theirs == ours else [f"{path}:\n    kafka {theirs!r}\n    ours  {ours!r}"]
