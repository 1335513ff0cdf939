"""Transactional producers on raw connections: each writes some records and commits, again and again.

The clients of a Kafka of this year are played (transaction version 2, KIP-890): one Produce 12, which adds the partition on its own,
and one EndTxn 5, whose answer has the epoch of the next transaction. Frames are made once and patched, so that a transaction costs
this process some 40 µs. Where a broker answers CONCURRENT_TRANSACTIONS, the request is sent again after 20 ms, as clients do.
"""

from __future__ import annotations

import heapq
import select
import struct
import time
from typing import TYPE_CHECKING

from barnabas.records.batch import compute_crc
from barnabas.records.builder import build_batch
from barnabas.records.record import Record
from barnabas.wire.messages.end_txn import EndTxnRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from barnabas.wire.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from barnabas.wire.messages.produce import ProduceRequest
from bench import raw
from bench.brokers import cpu_s
from bench.generator import Load

if TYPE_CHECKING:
    import socket

__all__ = ["run"]

_CONCURRENT_TRANSACTIONS = 51
_NOT_YET = (14, 15, 16, _CONCURRENT_TRANSACTIONS)  # the coordinator is being made or loaded
_AGAIN_S = 0.02
_DEADLINE_S = 60
_SILENCE_S = 60

# Of a batch: where its CRC is, and the producer's id, epoch and first sequence.
_CRC_AT, _PRODUCER_AT = 17, 43
_PRODUCER = struct.Struct(">qhi")
_IDENTITY = struct.Struct(">qh")
_SHORT = struct.Struct(">h")
_ANSWER_HEADER = 5  # of flexible versions, without its length: correlation id, no tagged fields


class _Producer:
    """One transactional id on a connection of its own, with one request under way."""

    def __init__(self, port: int, name: str, topic: str, partition: int, records: int) -> None:
        self.connection = raw.connect(port)
        self.producer_id, self.epoch = _initialize(self.connection, name)
        now_ms = int(time.time() * 1000)
        value = b"0123456789abcdef" * 7
        batch = build_batch(
            [Record(index, now_ms, None, value[:100], ()) for index in range(records)],
            producer_id=self.producer_id,
            producer_epoch=self.epoch,
            base_sequence=0,
            is_transactional=True,
        )
        produce = ProduceRequest(
            transactional_id=name,
            acks=-1,
            timeout_ms=30_000,
            topic_data=[
                ProduceRequest.TopicProduceData(
                    name=topic,
                    partition_data=[
                        ProduceRequest.PartitionProduceData(index=partition, records=bytes(batch))
                    ],
                )
            ],
        )
        self._produce = bytearray(raw.frame(0, 12, produce, flexible=True))
        self._batch_at = self._produce.index(batch)
        # After the name of its one topic: one partition, its index.
        self._produce_error_at = _ANSWER_HEADER + 1 + 1 + len(topic) + 1 + 4
        marked = EndTxnRequest(
            transactional_id=name, producer_id=0x0123456789ABCDEF, producer_epoch=0, committed=True
        )
        self._end = bytearray(raw.frame(26, 5, marked, flexible=True))
        self._end_producer_at = self._end.index(struct.pack(">q", 0x0123456789ABCDEF))
        self._ends = False
        self.began_at = 0.0
        self.committed = 0
        self.again = 0

    def begin(self) -> None:
        """Sends the records of the next transaction."""
        produce, at = self._produce, self._batch_at
        _PRODUCER.pack_into(produce, at + _PRODUCER_AT, self.producer_id, self.epoch, 0)
        struct.pack_into(">I", produce, at + _CRC_AT, compute_crc(produce, at))
        self._ends = False
        self.began_at = time.perf_counter()
        self.connection.sendall(produce)

    def send_again(self) -> None:
        self.connection.sendall(self._end if self._ends else self._produce)

    def receive(self) -> bool | None:
        """Takes an answer: whether the transaction is committed, None if the request is to be sent again."""
        answer = raw.receive(self.connection)
        at = _ANSWER_HEADER + 4 if self._ends else self._produce_error_at
        (error,) = _SHORT.unpack_from(answer, at)
        if error == _CONCURRENT_TRANSACTIONS:
            self.again += 1
            return None
        assert error == 0, f"error {error} of {'EndTxn' if self._ends else 'Produce'}"
        if self._ends:
            self.producer_id, self.epoch = _IDENTITY.unpack_from(answer, at + 2)
            self.committed += 1
            return True
        _IDENTITY.pack_into(self._end, self._end_producer_at, self.producer_id, self.epoch)
        self._ends = True
        self.connection.sendall(self._end)
        return False


def _initialize(connection: socket.socket, name: str) -> tuple[int, int]:
    find = raw.frame(10, 2, FindCoordinatorRequest(key=name, key_type=1), flexible=False)
    init = InitProducerIdRequest(transactional_id=name, transaction_timeout_ms=60_000)
    init_frame = raw.frame(22, 5, init, flexible=True)
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        connection.sendall(find)
        error = FindCoordinatorResponse.decode(raw.receive(connection), 2, 4).error_code
        if not error:
            connection.sendall(init_frame)
            answer = InitProducerIdResponse.decode(raw.receive(connection), 5, _ANSWER_HEADER)
            error = answer.error_code
            if not error:
                return answer.producer_id, answer.producer_epoch
        assert error in _NOT_YET, error
        assert time.monotonic() < deadline, error
        time.sleep(0.05)


def run(
    broker, topic: str, *, producers: int, records: int, warm_s: float, seconds: float
) -> tuple[Load, int]:
    """Transactions of `records` records of 100 B, one after another in each of `producers`, each with a partition of its own.

    A request of the load is a transaction, from before its records are sent until its commit is answered. Also gives how often a
    request was sent again.

    Raises:
        AssertionError: a broker's answer says no.
    """
    made = [_Producer(broker.port, f"{topic}-{index}", topic, index, records) for index in range(producers)]
    by_descriptor = {producer.connection.fileno(): producer for producer in made}
    poll = select.epoll()
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    latencies: list[float] = []
    later: list[tuple[float, int]] = []
    measures, ended = False, False
    until = time.perf_counter() + warm_s
    began_at, cpu, own = 0.0, 0.0, 0.0
    under_way = len(made)
    for producer in made:
        producer.begin()
    while under_way:
        wait_s = max(0.0, later[0][0] - time.perf_counter()) if later else _SILENCE_S
        ready = poll.poll(wait_s)
        now = time.perf_counter()
        if not ready and not later:
            raise TimeoutError(f"no answer for {_SILENCE_S} s")
        if now >= until and not ended:
            if measures:
                ended = True
                measured_s = now - began_at
                cpu, own = cpu_s(broker.pid) - cpu, time.process_time() - own
            else:
                measures, began_at, until = True, now, now + seconds
                cpu, own = cpu_s(broker.pid), time.process_time()
                latencies.clear()
                for producer in made:
                    producer.again = 0
        while later and later[0][0] <= now:
            by_descriptor[heapq.heappop(later)[1]].send_again()
        for descriptor, _ in ready:
            producer = by_descriptor[descriptor]
            is_committed = producer.receive()
            if is_committed is None:
                heapq.heappush(later, (now + _AGAIN_S, descriptor))
            elif is_committed:
                if ended:
                    under_way -= 1
                else:
                    latencies.append(time.perf_counter() - producer.began_at)
                    producer.begin()
    poll.close()
    for producer in made:
        producer.connection.close()
    _check(broker, topic, made, records)
    latencies.sort()
    count = len(latencies)
    load = Load(
        seconds=measured_s,
        requests=count,
        bytes=0,
        broker_cpu_s=cpu,
        own_cpu_s=own,
        samples=count,
        p50_ms=latencies[count // 2] * 1e3,
        p99_ms=latencies[int(count * 0.99)] * 1e3,
        p999_ms=latencies[int(count * 0.999)] * 1e3,
        max_ms=latencies[-1] * 1e3,
    )
    return load, sum(producer.again for producer in made)


def _check(broker, topic: str, made: list[_Producer], records: int) -> None:
    """Each partition ends with the marker of its last transaction, and has the records of all."""
    wanted = [producer.committed * (records + 1) for producer in made]
    deadline = time.monotonic() + _DEADLINE_S
    while raw.wait_until_led(broker.port, [topic], len(made)) != wanted:
        assert time.monotonic() < deadline, "transactions without an end"
        time.sleep(0.01)
