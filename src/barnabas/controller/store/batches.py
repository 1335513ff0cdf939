"""Metadata records in record batches: the content of the metadata log's segments and snapshots.

One append is one batch, so a crash leaves all of it or nothing. Each record has a null key and the framed record
(`metadata.framing`) as its value. Control batches tell of leaders and enclose snapshots.

An Apache Kafka whose quorum is dynamic (KIP-853) also keeps its voters in control records, and finds nobody to lead it
without them: they are kept from log to snapshot and from snapshot to snapshot (`Voters`), though nobody here votes.

Source: Kafka's `BatchBuilder`, `ControlRecordUtils` and `RecordsSnapshotWriter` (raft).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.errors import DecodeError
from barnabas.metadata.framing import decode_record, encode_record
from barnabas.records.batch import HEADER_SIZE, MAGIC, check_crc, parse_header
from barnabas.records.builder import build_batch
from barnabas.records.control import ControlType, control_key, decode_control_type
from barnabas.records.record import iterate_batch
from barnabas.wire.messages.client.leader_change_message import LeaderChangeMessage
from barnabas.wire.messages.client.snapshot_footer_record import SnapshotFooterRecord
from barnabas.wire.messages.client.snapshot_header_record import SnapshotHeaderRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from barnabas.records.record import Record

__all__ = [
    "LogScan",
    "Replay",
    "Voters",
    "decode_snapshot",
    "encode_batch",
    "encode_leader_change",
    "encode_snapshot",
    "scan_log",
]

_SNAPSHOT_BATCH_RECORDS = 1000
_BEGIN_TRANSACTION, _END_TRANSACTION, _ABORT_TRANSACTION = 23, 24, 25
_OF_VOTERS = (ControlType.KRAFT_VERSION, ControlType.KRAFT_VOTERS)

Voters = dict[ControlType, bytes]
"""Values of the last control records that say who votes, by their type, as Apache Kafka wrote them."""


def encode_batch(records: Iterable[Any], *, base_offset: int, epoch: int, timestamp_ms: int) -> bytearray:
    """One batch of metadata records."""
    return build_batch(
        ((0, timestamp_ms, None, encode_record(record), ()) for record in records),
        base_offset=base_offset,
        leader_epoch=epoch,
    )


def _encode_control(
    control_type: ControlType, value: bytes, *, base_offset: int, epoch: int, timestamp_ms: int
) -> bytearray:
    return build_batch(
        [(0, timestamp_ms, control_key(control_type), value, ())],
        base_offset=base_offset,
        leader_epoch=epoch,
        is_control=True,
    )


def encode_leader_change(*, leader_id: int, base_offset: int, epoch: int, timestamp_ms: int) -> bytearray:
    """The batch with which the only voter begins to lead in `epoch`."""
    voter = LeaderChangeMessage.Voter(voter_id=leader_id)
    message = LeaderChangeMessage(version=0, leader_id=leader_id, voters=[voter], granting_voters=[voter])
    return _encode_control(
        ControlType.LEADER_CHANGE,
        message.encode(0),
        base_offset=base_offset,
        epoch=epoch,
        timestamp_ms=timestamp_ms,
    )


def encode_snapshot(
    records: Iterable[Any],
    *,
    epoch: int,
    last_timestamp_ms: int,
    timestamp_ms: int,
    voters: Mapping[ControlType, bytes] | None = None,
) -> Iterator[bytearray]:
    """The batches of a snapshot, header and footer included; what is known of voters goes with the header."""
    header = SnapshotHeaderRecord(version=0, last_contained_log_timestamp=last_timestamp_ms)
    first = [(ControlType.SNAPSHOT_HEADER, header.encode(0))]
    first += [(kind, voters[kind]) for kind in _OF_VOTERS if voters and kind in voters]
    yield build_batch(
        [(number, timestamp_ms, control_key(kind), value, ()) for number, (kind, value) in enumerate(first)],
        base_offset=0,
        leader_epoch=epoch,
        is_control=True,
    )
    offset = len(first)
    run: list[Any] = []
    for record in records:
        run.append(record)
        if len(run) == _SNAPSHOT_BATCH_RECORDS:
            yield encode_batch(run, base_offset=offset, epoch=epoch, timestamp_ms=timestamp_ms)
            offset += len(run)
            run = []
    if run:
        yield encode_batch(run, base_offset=offset, epoch=epoch, timestamp_ms=timestamp_ms)
        offset += len(run)
    yield _encode_control(
        ControlType.SNAPSHOT_FOOTER,
        SnapshotFooterRecord(version=0).encode(0),
        base_offset=offset,
        epoch=epoch,
        timestamp_ms=timestamp_ms,
    )


def decode_snapshot(content: bytes, voters: Voters | None = None) -> list[Any]:
    """The records of a snapshot.

    Args:
        content: The file's bytes.
        voters: Takes what the snapshot says of voters.

    Raises:
        DecodeError: It is damaged, or not whole.
    """
    records: list[Any] = []
    kinds: list[ControlType | None] = []
    told: Voters = {}
    position = 0
    while position < len(content):
        header = parse_header(content, position)
        if header.magic != MAGIC or header.size_bytes < HEADER_SIZE or not check_crc(content, position):
            raise DecodeError(f"the batch at {position} is damaged")
        for record in iterate_batch(content, position, header):
            if header.is_control:
                kinds.append(decode_control_type(record.key))
                _note_voters(record, told)
            else:
                records.append(_decode_value(record.value))
        position += header.size_bytes
    # Between header and footer Kafka may tell its own version and voters.
    if (
        len(kinds) < 2
        or kinds[0] is not ControlType.SNAPSHOT_HEADER
        or kinds[-1] is not ControlType.SNAPSHOT_FOOTER
    ):
        raise DecodeError("it has no header, or no footer")
    if voters is not None:
        voters |= told
    return records


def _note_voters(record: Record, voters: Voters) -> None:
    kind = decode_control_type(record.key)
    if kind in _OF_VOTERS and record.value is not None:
        voters[kind] = record.value


def _decode_value(value: bytes | None) -> Any:
    if value is None:
        raise DecodeError("a metadata record has no value")
    return decode_record(value)


class LogScan(NamedTuple):
    """What a segment of the log holds.

    Attributes:
        next_offset: The offset after the last whole batch.
        epoch: The epoch of the last whole batch, or -1.
        timestamp_ms: The time of the last whole batch, or -1.
        size_bytes: The bytes of all whole batches.
        complaint: What is wrong with the bytes after that, if there are any.
    """

    next_offset: int
    epoch: int
    timestamp_ms: int
    size_bytes: int
    complaint: str | None


def scan_log(content: bytes, replay: Replay, *, expected_offset: int, from_offset: int) -> LogScan:
    """Reads the batches of a segment as far as they are whole and follow one another.

    Args:
        content: The segment's bytes.
        replay: Takes the records.
        expected_offset: The offset with which it has to begin.
        from_offset: Records below are in a snapshot already and are passed over.

    Raises:
        DecodeError: A batch is whole but holds something that is no metadata record.
    """
    position, offset, epoch, timestamp_ms = 0, expected_offset, -1, -1
    complaint = None
    while position < len(content):
        complaint = _complaint(content, position, offset)
        if complaint is not None:
            break
        header = parse_header(content, position)
        if header.last_offset >= from_offset:
            for record in iterate_batch(content, position, header):
                if header.is_control:
                    _note_voters(record, replay.voters)
                elif record.offset >= from_offset:
                    replay.add(_decode_value(record.value))
        position += header.size_bytes
        offset, epoch = header.next_offset, header.partition_leader_epoch
        timestamp_ms = header.max_timestamp
    return LogScan(offset, epoch, timestamp_ms, position, complaint)


def _complaint(content: bytes, position: int, offset: int) -> str | None:
    remaining = len(content) - position
    if remaining < HEADER_SIZE:
        return f"{remaining} bytes are too few for a batch"
    header = parse_header(content, position)
    if header.magic != MAGIC or header.size_bytes < HEADER_SIZE:
        return "there is no batch"
    if header.size_bytes > remaining:
        return f"the batch claims {header.size_bytes} bytes, {remaining} are there"
    if not check_crc(content, position):
        return "the batch fails its checksum"
    if header.base_offset != offset:
        return f"the batch has offset {header.base_offset} where {offset} is due"
    return None


class Replay:
    """Collects the records of a log, from segment to segment.

    Kafka writes what does not fit into one batch as a transaction of several: a record that begins it, the changes, a
    record that ends it. What was aborted is left out, and so is what was never ended.

    Attributes:
        records: The changes, in order.
        voters: What the log says of voters.
    """

    __slots__ = ("_begun_at", "records", "voters")

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.voters: Voters = {}
        self._begun_at: int | None = None

    def add(self, record: Any) -> None:
        """Takes the next record of the log."""
        if record.API_KEY == _BEGIN_TRANSACTION:
            self._begun_at = len(self.records)
        elif record.API_KEY == _END_TRANSACTION:
            self._begun_at = None
        elif record.API_KEY == _ABORT_TRANSACTION:
            self.abort()
        else:
            self.records.append(record)

    @property
    def in_transaction(self) -> bool:
        """Whether the log so far ends within a transaction."""
        return self._begun_at is not None

    def abort(self) -> None:
        """Leaves out what the transaction under way has changed."""
        if self._begun_at is not None:
            del self.records[self._begun_at :]
            self._begun_at = None
