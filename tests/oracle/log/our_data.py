"""Logs written by us, with what consumers must read from them."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager

from barnabas.clock import SystemClock
from barnabas.config.broker import BrokerConfig
from barnabas.config.topic import LogConfig
from barnabas.log.files import Files
from barnabas.log.group_commit import GroupCommit
from barnabas.log.log_directories import LogDirectories
from barnabas.log.origin import Origin
from barnabas.records.batch import parse_header
from barnabas.records.builder import build_batch
from barnabas.records.compression import Codec
from barnabas.records.control import build_end_marker
from tests.oracle.log.kafka_data import SEGMENT_BYTES

# There is no transaction coordinator here that could verify anything.
NO_VERIFICATION = {"transaction.partition.verification.enable": "false"}
CONFIG = LogConfig(segment_bytes=SEGMENT_BYTES, index_interval_bytes=1024)


@asynccontextmanager
async def log_directories(directory, *, node_id=1, clean=True):
    loop = asyncio.get_running_loop()
    group_commit = GroupCommit(loop)
    logs = LogDirectories(
        BrokerConfig({"log.dirs": str(directory), "node.id": str(node_id), **NO_VERIFICATION}),
        Files(),
        SystemClock(),
        loop=loop,
        group_commit=group_commit,
        log_config=lambda _topic: CONFIG,
    )
    try:
        logs.open()
        logs.adopt()
        await logs.recover()
        yield logs
    finally:
        await logs.close(clean=clean)
        group_commit.close()


class Writer:
    """Appends batches to a log of ours and keeps what consumers must read; a new leader comes every so many of `fill`'s batches."""

    def __init__(self, log, *, batches_per_leader=None):
        self.log = log
        self.leader_epoch = 0
        self._batches_per_leader = batches_per_leader
        self.records = []
        self.committed = []
        self.time_ms = 1_700_000_000_000

    def append(self, producer_id, sequence, count, *, codec=Codec.NONE, transactional=False, aborted=False):
        chance = random.Random(self.time_ms)
        made = []
        for index in range(count):
            self.time_ms += 1
            value = None if index == 1 else chance.randbytes(200) + b"half" * 50
            headers = (("trace", b"%d" % index), ("null", None)) if index % 3 == 0 else ()
            made.append((index, self.time_ms, b"key-%d" % index if index % 2 else None, value, headers))
        batch = build_batch(
            made,
            compression=codec,
            producer_id=producer_id,
            producer_epoch=0,
            base_sequence=sequence,
            is_transactional=transactional,
        )
        result = self._append(batch, Origin.CLIENT)
        read = [(result.first_offset + index, *fields) for index, *fields in made]
        self.records += read
        if not aborted:
            self.committed += read

    def end_transaction(self, producer_id, *, is_commit):
        batch = build_end_marker(
            is_commit=is_commit,
            producer_id=producer_id,
            producer_epoch=0,
            coordinator_epoch=0,
            timestamp_ms=self.time_ms,
        )
        self._append(batch, Origin.COORDINATOR)

    def fill(self):
        """All codecs, transactions that commit and abort and span other batches, and several segments."""
        for number in range(160):
            if self._batches_per_leader is not None:
                self.leader_epoch = number // self._batches_per_leader * 2
            self.append(1000, number * 50, 50, codec=list(Codec)[number % len(Codec)])
            if number % 40 == 10:
                self.append(2000 + number, 0, 30, transactional=True, aborted=number % 80 == 10)
            if number % 40 == 30:
                self.end_transaction(2000 + number - 20, is_commit=(number - 20) % 80 != 10)
        assert len(self.log.segment_base_offsets()) >= 3

    def _append(self, batch, origin):
        return self.log.append(
            batch, [parse_header(batch)], leader_epoch=self.leader_epoch, now_ms=self.time_ms, origin=origin
        )
