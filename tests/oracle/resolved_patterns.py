"""What a coordinator has written of a group's topic patterns: which are matched, and when that was done."""

from __future__ import annotations

import struct

from barnabas.records.record import iterate_records
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.group.consumer_group_regular_expression_key import (
    ConsumerGroupRegularExpressionKey as Key,
)
from barnabas.wire.messages.group.consumer_group_regular_expression_value import (
    ConsumerGroupRegularExpressionValue as Value,
)
from barnabas.wire.messages.list_offsets import ListOffsetsRequest
from tests.oracle.building import build

__all__ = ["ResolvedPatterns"]

_OFFSETS = "__consumer_offsets"
_LATEST = -1


class ResolvedPatterns:
    """Follows the only partition of `__consumer_offsets` on one broker, from its present end on.

    Attributes:
        matched_ms: Pattern -> when it was matched, in wall-clock time.
        rounds: How often patterns were matched.
    """

    def __init__(self, client, group_id) -> None:
        self._client = client
        self._group_id = group_id
        asked = {"name": _OFFSETS, "partitions": [{"partition_index": 0, "timestamp": _LATEST}]}
        answer = client.call(build(ListOffsetsRequest, replica_id=-1, topics=[asked]), 2)
        self._position = answer.topics[0].partitions[0].offset
        self.matched_ms: dict[str, int] = {}
        self.rounds = 0

    def read(self) -> None:
        """Takes in what was written since."""
        while True:
            part = {"partition": 0, "fetch_offset": self._position, "partition_max_bytes": 1 << 20}
            asked = [{"topic": _OFFSETS, "partitions": [part]}]
            request = build(FetchRequest, max_wait_ms=0, min_bytes=0, session_epoch=-1, topics=asked)
            answer = self._client.call(request, 11).responses[0].partitions[0]
            assert answer.error_code == 0, answer
            records = list(iterate_records(bytes(answer.records or b""), control=True))
            if not records:
                return
            before = max(self.matched_ms.values(), default=0)
            for record in records:
                if record.offset >= self._position and struct.unpack_from(">h", record.key)[0] == Key.API_KEY:
                    self._replay(Key.decode(record.key, 0, 2), record.value)
            self.rounds += max(self.matched_ms.values(), default=0) > before
            self._position = records[-1].offset + 1

    def _replay(self, key, value) -> None:
        if key.group_id != self._group_id:
            return
        if value is None:
            self.matched_ms.pop(key.regular_expression, None)
        else:
            self.matched_ms[key.regular_expression] = Value.decode(value, 0, 2).timestamp
