"""A transaction coordinator's shard and the partitions of its transactions, on a log that a crash may cut anywhere.

Nothing here waits: records are committed, markers delivered and crashes suffered when a test says so.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

from barnabas.coordinators.shard import Now
from barnabas.coordinators.transaction.settings import TransactionSettings
from barnabas.coordinators.transaction.shard import ProducerIdNeeded, TransactionShard
from barnabas.errors import ErrorCode, KafkaError
from barnabas.log.end_marker import EndMarker
from barnabas.log.files import Files
from barnabas.log.origin import Origin
from barnabas.log.producer_state import ProducerSettings, ProducerState
from barnabas.records.batch import parse_header
from barnabas.records.builder import build_batch
from barnabas.records.control import build_end_marker
from barnabas.records.record import Record

__all__ = ["Partition", "World"]

_FILES = Files()


class Partition:
    """A partition's producers, as the log keeps them, and what readers of committed records get to see."""

    def __init__(self, index):
        self.index = index
        self.producers = ProducerState(
            Path("/nowhere"), _FILES, ProducerSettings(), topic_partition=f"t-{index}"
        )
        self.end = 0
        self.open = {}  # producer id -> what it wrote since its last marker
        self.fates = {}  # what was written -> whether it was committed
        self.sequences = {}

    def guard(self, producer, *, version):
        return self.producers.begin_verification(
            producer.producer_id,
            self.sequences.get(producer, 0),
            producer.epoch,
            supports_epoch_bump=version >= 2,
            now_ms=0,
        )

    def append(self, producer, what, guard):
        """Appends one record of a transaction; KafkaError as the log refuses."""
        batch = build_batch(
            [Record(0, 0, None, b"", ())],
            base_offset=self.end,
            producer_id=producer.producer_id,
            producer_epoch=producer.epoch,
            base_sequence=self.sequences.get(producer, 0),
            is_transactional=True,
        )
        header = parse_header(batch)
        assert self.producers.check(header, Origin.CLIENT, guard=guard) is None
        self.producers.update(header)
        self.sequences[producer] = self.sequences.get(producer, 0) + 1
        self.end += 1
        self.open.setdefault(producer.producer_id, []).append(what)

    def mark(self, markers):
        """Appends an end marker; KafkaError as the log refuses."""
        batch = build_end_marker(
            is_commit=markers.committed,
            producer_id=markers.producer_id,
            producer_epoch=markers.producer_epoch,
            coordinator_epoch=0,
            timestamp_ms=0,
            base_offset=self.end,
        )
        header = parse_header(batch)
        marker = EndMarker(not markers.committed, 0, 0)
        self.producers.check(header, Origin.COORDINATOR, marker=marker, transaction_version=markers.version)
        self.producers.update(header, marker=marker)
        self.end += 1
        for what in self.open.pop(markers.producer_id, ()):
            assert what not in self.fates
            self.fates[what] = markers.committed


class _Write:
    def __init__(self, end, completion, response, answer):
        self.end = end
        self.completion = completion
        self.response = response
        self.answer = answer


class World:
    """See the module. Operations answer through `answer(response or KafkaError)`."""

    def __init__(self, *, version=2, partitions=2, **settings):
        self.settings = TransactionSettings(version=version, **settings)
        self.now_ms = 1_000_000
        self.log = []
        self.committed = 0
        self.writes = deque()
        self.outbox = deque()
        self.partitions = [Partition(index) for index in range(partitions)]
        self.next_producer_id = 100
        self.start()

    def now(self):
        return Now(self.now_ms, float(self.now_ms))

    def start(self):
        """Loads the log, as a broker that starts does."""
        self.shard = TransactionShard(self.settings, self._post)
        for offset, (key, value) in enumerate(self.log):
            self.shard.replay(offset, -1, -1, key, value)
        self.committed = len(self.log)
        self.is_uncertain = False  # whether the log may know of something that the shard does not
        for result in self.shard.on_loaded(self.now()):
            self._apply(result, None)

    def crash(self, lost):
        """Loses at most so many records of those that are not committed, and everything in memory."""
        del self.log[max(len(self.log) - lost, self.committed) :]
        self.writes.clear()
        self.outbox.clear()
        self.start()

    def _post(self, markers):
        self.outbox.append([markers, sorted(markers.partitions)])

    # ----- operations

    def ask(self, operation, answer=lambda _: None):
        """`operation(shard, new producer id, now)`; KafkaError where it refuses at once."""
        try:
            try:
                result = operation(self.shard, None, self.now())
            except ProducerIdNeeded:
                self.next_producer_id += 1
                result = operation(self.shard, self.next_producer_id, self.now())
        except KafkaError as error:
            answer(error)
            return
        self._apply(result, answer)

    def _apply(self, result, answer):
        for waiter, response in result.answers:
            waiter(response)
        if not result.records:
            if answer is not None:
                answer(result.response)
            return
        assert not result.replay
        self.log += result.records
        if result.appended is not None:
            result.appended(self.now())
        if not result.is_awaited:
            assert result.completion is None
            if answer is not None:
                answer(result.response)
            return
        self.writes.append(_Write(len(self.log), result.completion, result.response, answer))

    def commit(self):
        """The oldest write is committed, with everything before it."""
        if self.writes:
            self.committed = max(self.committed, self.writes[0].end)
            self._finish(self.writes.popleft(), None)

    def fail(self):
        """Nobody knows what becomes of the oldest write."""
        if self.writes:
            self.is_uncertain = True
            self._finish(self.writes.popleft(), KafkaError(ErrorCode.COORDINATOR_NOT_AVAILABLE))

    def _finish(self, write, error):
        completion = write.completion
        result = completion.committed(self.now()) if error is None else completion.failed(error, self.now())
        if result is not None:
            self._apply(result, None)
        if write.answer is not None:
            write.answer(write.response if error is None else error)

    def deliver(self, at=0):
        """The next marker reaches its partition, or a transaction that has all of them is completed."""
        if not self.outbox:
            return
        self.outbox.rotate(-at)
        entry = self.outbox[0]
        markers, missing = entry
        if missing:
            self.partitions[missing.pop(0)[1]].mark(markers)
            return
        self.outbox.popleft()

        def again(outcome):
            if isinstance(outcome, KafkaError):
                self.outbox.append(entry)

        self.ask(lambda shard, _, now: shard.complete(markers, now), again)

    def pass_time(self, ms):
        """Time passes, and timers ring."""
        self.now_ms += ms
        for result in self.shard.on_timer(self.now()):
            self._apply(result, None)

    def settle(self):
        """Everything that is under way comes to its end."""
        while self.writes or self.outbox:
            self.commit()
            self.deliver()
