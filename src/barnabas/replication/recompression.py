"""Recompression of produced batches for topics whose `compression.type` names a codec.

A batch in another codec is taken apart and packed anew before it is appended; one that is in the right codec already is left as it
is, whatever its level, as with Apache Kafka. Small batches are packed at once. What takes long is packed in a worker thread, and
what comes for the same partition meanwhile waits behind it, so that the order stays.

Source: `LogValidator` of Apache Kafka 4.3; KIP-390 (levels).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import DecodeError, ErrorCode, KafkaError, StorageError
from barnabas.records.batch import parse_header
from barnabas.records.builder import recompress
from barnabas.records.compression import DEFAULT_LIMIT_BYTES, Codec
from barnabas.records.record import uncompressed_records

if TYPE_CHECKING:
    from collections.abc import Callable

    from barnabas.config.topic import LogConfig
    from barnabas.log.partition_log import AppendResult
    from barnabas.records.batch import BatchHeader

__all__ = ["NeedsTimeError", "Recompressions", "pack"]

AT_ONCE_BYTES = 16_384
"""Records of so many bytes are packed on the event loop: half a millisecond of gzip."""

_CODECS = {
    "uncompressed": Codec.NONE,
    "gzip": Codec.GZIP,
    "snappy": Codec.SNAPPY,
    "lz4": Codec.LZ4,
    "zstd": Codec.ZSTD,
}
_LZ4_USUAL_LEVEL = 9


class NeedsTimeError(KafkaError):
    """Nothing was appended: the batch has to be packed anew first, or waits behind one that is (`Partition.append_later`)."""


class _Target(NamedTuple):
    """What a topic's batches are packed with; the level is None for the codec's own."""

    codec: Codec
    level: int | None


def _target_of(config: LogConfig) -> _Target | None:
    """What the topic's settings ask for, None where batches stay as they came."""
    codec = _CODECS.get(config.compression_type)
    if codec is None:
        return None
    level = None
    if codec is Codec.GZIP and config.compression_gzip_level >= 0:
        level = config.compression_gzip_level
    elif codec is Codec.LZ4 and config.compression_lz4_level != _LZ4_USUAL_LEVEL:
        level = config.compression_lz4_level
    elif codec is Codec.ZSTD:
        level = config.compression_zstd_level
    return _Target(codec, level)


def pack(
    records: bytearray | memoryview, header: BatchHeader, config: LogConfig, *, may_take_long: bool
) -> bytearray | memoryview:
    """The batch as the topic wants it.

    Raises:
        NeedsTimeError: it takes long, and may not.
        KafkaError: INVALID_RECORD if the records are damaged, MESSAGE_TOO_LARGE if they are too large now.
    """
    target = _target_of(config)
    if target is None or header.compression == target.codec:
        return records
    if not may_take_long and header.size_bytes > AT_ONCE_BYTES:
        raise NeedsTimeError(ErrorCode.UNKNOWN_SERVER_ERROR)
    limit_bytes = DEFAULT_LIMIT_BYTES if may_take_long else AT_ONCE_BYTES
    try:
        payload = uncompressed_records(records, 0, header, limit_bytes=limit_bytes)
    except DecodeError as error:
        if not may_take_long:
            raise NeedsTimeError(ErrorCode.UNKNOWN_SERVER_ERROR) from None
        raise KafkaError(ErrorCode.INVALID_RECORD, f"Batch does not parse: {error}") from None
    packed = recompress(header, payload, target.codec, target.level)
    if len(packed) > config.max_message_bytes:
        raise KafkaError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"Batch of {len(packed)} bytes, packed anew, is larger than the topic's maximum of {config.max_message_bytes}",
        )
    return packed


class _Job(NamedTuple):
    records: bytearray
    header: BatchHeader
    config: LogConfig
    append: Callable[[bytearray | memoryview], AppendResult]
    is_gone: Callable[[], bool]
    future: asyncio.Future[AppendResult]


class Recompressions:
    """What waits to be packed anew for one partition, in order.

    Attributes:
        is_appending: whether what is being appended comes from here.
    """

    __slots__ = ("_jobs", "_task", "is_appending")

    def __init__(self) -> None:
        self._jobs: deque[_Job] = deque()
        self._task: asyncio.Task[None] | None = None
        self.is_appending = False

    @property
    def is_busy(self) -> bool:
        """Whether anything waits."""
        return bool(self._jobs)

    def add(
        self,
        records: bytearray,
        config: LogConfig,
        append: Callable[[bytearray | memoryview], AppendResult],
        is_gone: Callable[[], bool],
    ) -> asyncio.Future[AppendResult]:
        """Has a validated batch packed, and appended when those before it are.

        Args:
            records: the batch, which is kept.
            config: the topic's settings.
            append: what appends it then.
            is_gone: whether its client has gone, who was promised nothing; then nothing is packed.

        Returns:
            A future of the result; fails with KafkaError or StorageError.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[AppendResult] = loop.create_future()
        self._jobs.append(_Job(records, parse_header(records), config, append, is_gone, future))
        if self._task is None:
            self._task = loop.create_task(self._run(loop), name="recompression")
        return future

    async def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while self._jobs:
                job = self._jobs[0]
                try:
                    if job.is_gone():
                        raise KafkaError(ErrorCode.NETWORK_EXCEPTION, "the client has gone")
                    packed = await loop.run_in_executor(None, _pack_at_length, job)
                    self.is_appending = True
                    result = job.append(packed)
                except (KafkaError, StorageError) as error:
                    if not job.future.done():
                        job.future.set_exception(error)
                else:
                    if not job.future.done():
                        job.future.set_result(result)
                finally:
                    self.is_appending = False
                    self._jobs.popleft()
        finally:
            self._task = None


def _pack_at_length(job: _Job) -> bytearray | memoryview:
    return pack(job.records, job.header, job.config, may_take_long=True)
