"""A client that does no harm, and notices any: each record and offset that was acknowledged is there as it was."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from barnabas.records.builder import build_batch
from barnabas.records.record import Record, iterate_records
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.delete_groups import DeleteGroupsRequest
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from barnabas.wire.messages.list_groups import ListGroupsRequest
from barnabas.wire.messages.metadata import MetadataRequest
from barnabas.wire.messages.offset_commit import OffsetCommitRequest
from barnabas.wire.messages.offset_fetch import OffsetFetchRequest
from barnabas.wire.messages.produce import ProduceRequest
from tests.broker_process import wait_until
from tests.fuzz.findings import PATIENCE_S, Finding
from tests.fuzz.frames import PROTECTED
from tests.oracle.building import build
from tests.wire_client import WireClient

if TYPE_CHECKING:
    from barnabas.wire.message import Message

__all__ = ["Canary"]

TOPICS_PER_REQUEST = 500
CLIENT_METRICS = 16


class Canary:
    """A topic and a group of its own."""

    def __init__(self, address: str) -> None:
        self.client = WireClient(address, client_id="canary", timeout_s=PATIENCE_S)
        self.acknowledged = 0
        topic = {"name": PROTECTED, "num_partitions": 1, "replication_factor": 1}
        self._call(build(CreateTopicsRequest, topics=[topic], timeout_ms=60_000), 5)
        self._find_coordinator()

    def reconnect(self, address: str) -> None:
        """The broker was started again."""
        self.client.socket.close()
        self.client = WireClient(address, client_id="canary", timeout_s=PATIENCE_S)
        self._find_coordinator()

    def _find_coordinator(self) -> None:
        wait_until(
            lambda: self._call(FindCoordinatorRequest(key=PROTECTED), 2).error_code == 0,
            PATIENCE_S,
            "a coordinator",
        )
        if self.acknowledged:
            wait_until(lambda: self._committed_offset() is not None, PATIENCE_S, "the committed offset")

    def _call(self, request: Message, version: int):
        try:
            return self.client.call(request, version)
        except (TimeoutError, ConnectionError) as error:
            raise Finding(f"the canary is not served: {error!r}: {request}") from error

    def sing(self) -> None:
        """Writes a record, commits an offset, and reads both."""
        self._produce()
        start = random.Random(self.acknowledged).randrange(self.acknowledged)
        found = self._fetch(start)
        if not found:
            raise Finding(f"the canary reads nothing at {start} of {self.acknowledged}")
        self._commit()

    def check_all(self) -> None:
        """Reads all that was ever acknowledged."""
        position = 0
        while position < self.acknowledged:
            found = self._fetch(position)
            if not found:
                raise Finding(f"the canary's records from {position} to {self.acknowledged} are gone")
            position += found
        committed = self._committed_offset()
        if committed != self.acknowledged:
            raise Finding(f"the canary committed {self.acknowledged} and finds {committed}")

    def tidy_up(self) -> None:
        """Deletes what others created, so that it does not fill the machine, and gives them a topic to begin with."""
        topics = self._call(MetadataRequest(topics=None), 9).topics
        strangers = [topic.name for topic in topics if not topic.name.startswith((PROTECTED, "__"))]
        for start in range(0, len(strangers), TOPICS_PER_REQUEST):
            names = strangers[start : start + TOPICS_PER_REQUEST]
            self._call(DeleteTopicsRequest(topic_names=names, timeout_ms=60_000), 5)
        listed = [group.group_id for group in self._call(ListGroupsRequest(), 4).groups]
        others = [name for name in listed if not name.startswith(PROTECTED)]
        if others:
            self._call(DeleteGroupsRequest(groups_names=others), 1)
        wanted = {"metrics": "*", "interval.ms": "100"}
        configs = [{"name": key, "config_operation": 0, "value": value} for key, value in wanted.items()]
        asked = {"resource_type": CLIENT_METRICS, "resource_name": "fuzz-metrics", "configs": configs}
        self._call(build(IncrementalAlterConfigsRequest, resources=[asked]), 1)
        theirs = {"name": "fuzz-a", "num_partitions": 2, "replication_factor": 1}
        self._call(build(CreateTopicsRequest, topics=[theirs], timeout_ms=60_000), 5)

    def _produce(self) -> None:
        value = b"%d" % self.acknowledged
        batch = bytes(build_batch([Record(0, int(time.time() * 1000), b"k", value, ())]))
        request = build(
            ProduceRequest,
            transactional_id=None,
            acks=-1,
            timeout_ms=60_000,
            topic_data=[{"name": PROTECTED, "partition_data": [{"index": 0, "records": batch}]}],
        )
        answer = self._call(request, 9).responses[0].partition_responses[0]
        if answer.error_code or answer.base_offset != self.acknowledged:
            raise Finding(f"the canary's record {self.acknowledged} is answered with {answer}")
        self.acknowledged += 1

    def _fetch(self, start: int) -> int:
        """Reads from `start` on; gives how many records there were, which are all right."""
        part = {"partition": 0, "fetch_offset": start, "partition_max_bytes": 1 << 20}
        request = build(
            FetchRequest,
            max_wait_ms=1000,
            min_bytes=1,
            session_epoch=-1,
            topics=[{"topic": PROTECTED, "partitions": [part]}],
        )
        answer = self._call(request, 11).responses[0].partitions[0]
        records = list(iterate_records(bytes(answer.records or b"")))
        expected = [(offset, b"%d" % offset) for offset in range(start, start + len(records))]
        if answer.error_code or [(record.offset, record.value) for record in records] != expected:
            raise Finding(f"the canary reads {records[:3]} at {start}: {answer.error_code}")
        return len(records)

    def _commit(self) -> None:
        part = {"partition_index": 0, "committed_offset": self.acknowledged, "committed_metadata": ""}
        topics = [{"name": PROTECTED, "partitions": [part]}]
        answer = self._call(build(OffsetCommitRequest, group_id=PROTECTED, topics=topics), 2)
        code = answer.topics[0].partitions[0].error_code
        if code:
            raise Finding(f"the canary's commit of {self.acknowledged} is answered with {code}")
        committed = self._committed_offset()
        if committed != self.acknowledged:
            raise Finding(f"the canary committed {self.acknowledged} and finds {committed}")

    def _committed_offset(self) -> int | None:
        topics = [{"name": PROTECTED, "partition_indexes": [0]}]
        answer = self._call(build(OffsetFetchRequest, group_id=PROTECTED, topics=topics), 5)
        return None if answer.error_code else answer.topics[0].partitions[0].committed_offset
