"""What is counted of a topic's produce and fetch requests, under Kafka's names (`BrokerTopicMetrics`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ErrorCode
from barnabas.metrics import Counter
from barnabas.records.validation import (
    InvalidChecksumError,
    InvalidMagicError,
    InvalidOffsetsError,
    MissingKeysError,
)

if TYPE_CHECKING:
    from barnabas.errors import KafkaError
    from barnabas.metrics import Registry

__all__ = ["TopicMetrics"]

_PREFIX = "kafka_server_brokertopicmetrics_"

# A client meets these in the ordinary run of things, or is alone at fault; Kafka does not count them as failures either
# (`ReplicaManager.appendToLocalLog`). Other than there, a disk that fails is one.
_EXPECTED = frozenset(
    (
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.UNKNOWN_TOPIC_ID,
        ErrorCode.NOT_LEADER_OR_FOLLOWER,
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.RECORD_LIST_TOO_LARGE,
        ErrorCode.CORRUPT_MESSAGE,
    )
)


class TopicMetrics:
    """The counters of one topic, shared by its partitions on this broker. Handlers add to their values directly.

    Args:
        registry: Where they are shown; nowhere if None.
        topic: The topic's name.
    """

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "bytes_rejected",
        "failed_fetch_requests",
        "failed_produce_requests",
        "fetch_requests",
        "invalid_crc",
        "invalid_magic",
        "invalid_offsets",
        "messages_in",
        "missing_keys",
        "produce_requests",
    )

    def __init__(self, registry: Registry | None = None, topic: str = "") -> None:
        def counter(name: str) -> Counter:
            return Counter() if registry is None else registry.counter(f"{_PREFIX}{name}_total", topic=topic)

        self.messages_in = counter("messagesin")
        self.bytes_in = counter("bytesin")
        self.bytes_out = counter("bytesout")
        self.bytes_rejected = counter("bytesrejected")
        self.produce_requests = counter("totalproducerequests")
        self.fetch_requests = counter("totalfetchrequests")
        self.failed_produce_requests = counter("failedproducerequests")
        self.failed_fetch_requests = counter("failedfetchrequests")
        self.missing_keys = counter("nokeycompactedtopicrecords")
        self.invalid_magic = counter("invalidmagicnumberrecords")
        self.invalid_crc = counter("invalidmessagecrcrecords")
        self.invalid_offsets = counter("invalidoffsetorsequencerecords")

    def produce_failed(self, error: KafkaError, size_bytes: int) -> None:
        """Counts that `size_bytes` of batches were not appended, by the reason."""
        if error.code is ErrorCode.MESSAGE_TOO_LARGE:
            self.bytes_rejected.value += size_bytes
        if error.code not in _EXPECTED:
            self.failed_produce_requests.value += 1
        if isinstance(error, InvalidChecksumError):
            self.invalid_crc.value += 1
        elif isinstance(error, InvalidOffsetsError):
            self.invalid_offsets.value += 1
        elif isinstance(error, MissingKeysError):
            self.missing_keys.value += 1
        elif isinstance(error, InvalidMagicError):
            self.invalid_magic.value += 1
