"""Answers of two brokers made comparable: without what `tools.differences` says cannot be the same, and nothing else.

`Likeness` turns the answers of one broker into plain values. Ids that a broker makes up become numbers, in the order in which
they are first seen: two brokers that are asked the same have the same numbers. In a list without an order they are seen in that of
all that is not made up.
"""

from __future__ import annotations

import math
import re
import struct

from barnabas.errors import DecodeError
from barnabas.records.checksum import crc32c
from barnabas.wire.message import Structure
from barnabas.wire.messages.client.consumer_protocol_assignment import ConsumerProtocolAssignment
from tools.differences import FIELDS, ORDERS, WORDS

__all__ = ["Likeness", "differences"]

_ONLY_WHETHER = {
    "producer_id": lambda value: value >= 0,
    "session_id": lambda value: value != 0,
    "log_append_time_ms": lambda value: value >= 0,
}

_MEMBER_ID = re.compile(r"[A-Za-z0-9_-]{22}")
"""Of a consumer group's member for which the broker made it up."""
_FENCED_BY = re.compile(r"(?<=by member )[A-Za-z0-9_-]{22}(?=\.)")
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
            is_unordered = f"{owner}.{field}" in ORDERS
            kept = [item for item in value if self._is_kept(item)]
            if is_unordered and len(kept) > 1:
                nameless = _Nameless(self._keep)
                kept.sort(key=lambda item: repr(nameless(item, "", owner)))
            items = [self(item, "", owner) for item in kept]
            if f"{owner}.{field}" == "FetchResponse.responses":
                items = _merged(items)
            return sorted(items, key=repr) if is_unordered else items
        if field == "records":
            return [] if value is None else plain_records(bytes(value))
        if isinstance(value, str):
            if field == "member_id" and _MEMBER_ID.fullmatch(value):
                return self._number(value)
            if field == "error_message":
                value = _BAD_SETTING.sub("a bad setting", value)
                value = _FENCED_BY.sub(lambda found: self._number(found[0]), value)
            return _UUID.sub(lambda found: self._number(found[0]), value)
        if field == "topic_id":
            return self._number(bytes(value))
        if field in ("member_assignment", "assignment") and isinstance(value, bytes):
            return plain_assignment(value)
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


class _Nameless(Likeness):
    """Without the ids that a broker makes up."""

    def _number(self, _made_up) -> str:
        return "<>"


def plain_assignment(data: bytes) -> bytes | list:
    """A consumer's assignment with its topics in order, which are in that of a hash map where Kafka writes it; else as it is."""
    try:
        decoded, end = ConsumerProtocolAssignment.decode_at(data, 1, 2)
    except DecodeError:
        return data
    if end != len(data) or decoded.encode(1) != data[2:]:
        return data
    topics = sorted((each.topic, sorted(each.partitions)) for each in decoded.assigned_partitions)
    return [data[:2], topics, decoded.user_data]


def _merged(topics: list[dict]) -> list[dict]:
    """Each topic once: what stands together in an answer depends on the order."""
    merged: dict[tuple, dict] = {}
    for topic in topics:
        first = merged.setdefault((topic["topic"], topic["topic_id"]), topic)
        if first is not topic:
            first["partitions"] = sorted(first["partitions"] + topic["partitions"], key=repr)
    return list(merged.values())


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
