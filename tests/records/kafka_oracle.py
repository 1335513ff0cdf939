"""A Java process that answers with Apache Kafka's own record classes (`java/Oracle.java`)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode
from tests.oracle.java_program import JavaProgram

if TYPE_CHECKING:
    from collections.abc import Sequence

_SOURCE = Path(__file__).with_name("java") / "Oracle.java"


class KafkaOracle:
    """Asks one question at a time; every method names the Kafka code that answers it."""

    def __init__(self, directory: Path) -> None:
        self._java = JavaProgram(_SOURCE, directory, str(directory / "logs"))
        self.close = self._java.close

    def append(
        self,
        records: bytes,
        *,
        api_version: int = 9,
        now_ms: int,
        max_message_bytes: int = 2**20,
        segment_bytes: int = 2**30,
        log_append_time: bool = False,
        timestamp_before_max_ms: int = 2**63 - 1,
        timestamp_after_max_ms: int = 3_600_000,
        keys_required: bool = False,
        compression_type: str = "producer",
    ) -> tuple[ErrorCode, bytes]:
        """`ProduceRequest.validateRecords` and `UnifiedLog.appendAsLeader` at leader epoch 7: code, stored bytes."""
        code = self._ask(
            struct.pack(
                ">chqiibqqb",
                b"A",
                api_version,
                now_ms,
                max_message_bytes,
                segment_bytes,
                log_append_time,
                timestamp_before_max_ms,
                timestamp_after_max_ms,
                keys_required,
            ),
            _bytes(compression_type.encode()),
            _bytes(records),
            answer=">h",
        )
        return ErrorCode(code), self._answer()

    def read(self, records: bytes) -> tuple[bool, str]:
        """`MemoryRecords` iterated: a line of text for each record, or False and the exception."""
        ok = self._ask(b"R", _bytes(records), answer=">b")
        return ok == 1, self._answer().decode()

    def build(self, codec: int, records: Sequence[tuple]) -> bytes:
        """`MemoryRecords.withRecords`."""
        parts = [struct.pack(">cbi", b"B", codec, len(records))]
        for _, timestamp, key, value, headers in records:
            parts += [
                struct.pack(">q", timestamp),
                _bytes(key),
                _bytes(value),
                struct.pack(">i", len(headers)),
            ]
            for name, content in headers:
                parts += [_bytes(name.encode()), _bytes(content)]
        self._ask(*parts)
        return self._answer()

    def end_marker(
        self,
        *,
        base_offset: int,
        timestamp_ms: int,
        leader_epoch: int,
        producer_id: int,
        producer_epoch: int,
        is_commit: bool,
        coordinator_epoch: int,
    ) -> bytes:
        """`MemoryRecords.withEndTransactionMarker`."""
        self._ask(
            struct.pack(
                ">cqqiqhbi",
                b"M",
                base_offset,
                timestamp_ms,
                leader_epoch,
                producer_id,
                producer_epoch,
                is_commit,
                coordinator_epoch,
            )
        )
        return self._answer()

    def empty(self, batch: bytes) -> bytes:
        """`DefaultRecordBatch.writeEmptyHeader` with the fields of `batch`."""
        self._ask(b"E", _bytes(bytes(batch)))
        return self._answer()

    def _ask(self, *parts: bytes, answer: str | None = None) -> int:
        self._java.ask(b"".join(parts))
        if answer is None:
            return 0
        return struct.unpack(answer, self._java.read(struct.calcsize(answer)))[0]

    def _answer(self) -> bytes:
        return self._java.read(struct.unpack(">i", self._java.read(4))[0])


def describe(records) -> str:
    """Our records as the lines that `KafkaOracle.read` gives."""
    lines = []
    for record in records:
        words = [str(record.offset), str(record.timestamp), _hex(record.key), _hex(record.value)]
        words += [f"{_hex(name.encode())}={_hex(content)}" for name, content in record.headers]
        lines.append(" ".join(words) + "\n")
    return "".join(lines)


def _hex(data: bytes | None) -> str:
    return "null" if data is None else "x" + data.hex()


def _bytes(data: bytes | None) -> bytes:
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data
