"""Damaged requests on many connections, while a canary on another one writes and reads and checks what it reads.

What must hold: the broker lives, logs no traceback, serves the canary, answers every request that can be decoded, in order and so
that the answer decodes, keeps no connection of a client that is gone, and after an hour needs no more memory and holds no more
things of any kind than after a quarter of it.
"""

from __future__ import annotations

import collections
import itertools
import random
import time
from typing import TYPE_CHECKING

from tests.broker_process import wait_until
from tests.fuzz.attackers import REQUEST_BYTES_MAX, Attackers
from tests.fuzz.canary import Canary
from tests.fuzz.findings import PATIENCE_S, Finding, save
from tests.fuzz.frames import Frame, Frames
from tests.fuzz.watch import Watch
from tests.soak.counted_broker import CountedBroker
from tests.soak.judge import counts_that_grow

if TYPE_CHECKING:
    from pathlib import Path

    from tests.soak.judge import Sample

__all__ = ["fuzz", "replay"]

SETTINGS = {
    "offsets.topic.num.partitions": "2",
    "log.retention.check.interval.ms": "1000",
    "num.partitions": "1",
    "transaction.state.log.num.partitions": "2",
    "transaction.state.log.replication.factor": "1",
    "barnabas.metrics.port": "0",
    "offsets.commit.timeout.ms": "60000",
    # The ends of clients whose requests wait are looked for 20 times in this time.
    "connections.max.idle.ms": "120000",
    # With the defaults, so many clients may hold more memory than this watch allows.
    "socket.request.max.bytes": str(REQUEST_BYTES_MAX),
    "barnabas.outgoing.bytes.per.connection": str(1 << 20),
    # What is kept for days, or until there are ten thousand, would take the whole run to fill.
    "barnabas.client.metrics.max.series": "500",
    "producer.id.expiration.ms": "60000",
    "producer.id.expiration.check.interval.ms": "10000",
    "transactional.id.expiration.ms": "60000",
    "transaction.remove.expired.transaction.cleanup.interval.ms": "10000",
    "offsets.retention.minutes": "10",
    "offsets.retention.check.interval.ms": "10000",
    "max.incremental.fetch.session.cache.slots": "10",
}
CONNECTIONS = 24
FRAMES_PER_SONG = 100
FRAMES_KEPT = 5000
SONGS_PER_REST = 50
RESTS_PER_COUNT = 5
MAX_RSS_BYTES = 256 << 20
MAX_GROWTH_BYTES = 32 << 20
"""From the rests of the first quarter to those of the last: whatever leaks at each frame is more by then."""

JUDGED_FROM_RESTS = 12


def fuzz(
    directory: Path, *, seconds: float, seed: int, save_to: Path, frames_min: int = 0
) -> dict[str, object]:
    """Runs for that long, and until so many frames are sent; gives figures. Raises Finding, after the last frames have been written to `save_to`."""
    sent: collections.deque[tuple[int, Frame]] = collections.deque(maxlen=FRAMES_KEPT)
    run = _Run(random.Random(seed), sent, frames_min)
    with _broker(directory) as broker:
        try:
            run.run(broker, seconds)
        except AssertionError as error:
            path = save(
                save_to,
                f"wire-{seed}",
                seed=seed,
                frames=run.count,
                finding=str(error),
                log=broker.log_tail(20_000),
                last=[(which, frame._replace(data=frame.data.hex())) for which, frame in sent],
            )
            raise Finding(f"seed {seed}, {run.count} frames sent, kept in {path}:\n{error}") from error
    return run.figures


def _broker(directory: Path) -> CountedBroker:
    """With two disks, so that replicas can be moved."""
    broker = CountedBroker(directory, SETTINGS)
    broker.data_directory = f"{directory}/a,{directory}/b"
    return broker


class _Run:
    """One broker, from its start to its end."""

    def __init__(
        self, chance: random.Random, sent: collections.deque[tuple[int, Frame]], frames_min: int
    ) -> None:
        self._chance = chance
        self._sent = sent
        self._frames_min = frames_min
        self._end = 0.0
        self._resting_rss_bytes: list[int] = []
        self._samples: list[Sample] = []
        self.count = 0
        self.figures: dict[str, object] = {}

    def run(self, broker: CountedBroker, seconds: float) -> None:
        started = time.monotonic()
        self._end = started + seconds
        canary = Canary(broker.bootstrap_server)
        canary.sing()
        canary.tidy_up()
        watch = Watch(broker, MAX_RSS_BYTES)
        idle_sockets = watch.descriptors("socket:")
        attackers = Attackers(broker.bootstrap_server, CONNECTIONS, Frames(self._chance), self._chance)
        try:
            for song in itertools.count(1):
                self._attack(attackers)
                canary.sing()
                watch.look()
                if song % SONGS_PER_REST == 0 or self._is_over():
                    self._rest(attackers, canary, watch, idle_sockets)
                if song % (SONGS_PER_REST * RESTS_PER_COUNT) == 0:
                    self._samples.append(broker.sample(time.monotonic() - started))
                if self._is_over():
                    break
        finally:
            attackers.close()
        self._judge_growth()
        if broker.stop() != 0:
            raise Finding(f"the broker does not stop cleanly:\n{broker.log_tail()}")
        broker.start()
        canary.reconnect(broker.bootstrap_server)
        canary.check_all()
        Watch(broker, MAX_RSS_BYTES).look()
        canary.client.socket.close()
        self.figures = {
            "frames": self.count,
            "connections": attackers.opened,
            "answers_checked": attackers.answers,
            "canary_records": canary.acknowledged,
            "start_rss_mb": watch.start_rss_bytes >> 20,
            "censuses": len(self._samples),
            "peak_rss_mb": watch.peak_rss_bytes >> 20,
            "resting_rss_mb": [size >> 20 for size in _thinned(self._resting_rss_bytes)],
        }

    def _is_over(self) -> bool:
        return time.monotonic() >= self._end and self.count >= self._frames_min

    def _attack(self, attackers: Attackers) -> None:
        chance = self._chance
        for _ in range(FRAMES_PER_SONG):
            which = chance.randrange(CONNECTIONS)
            frame = attackers.frames.frame()
            self._sent.append((which, frame))
            attackers.send(which, frame)
            self.count += 1
            if chance.random() < 0.02:
                attackers.drop(which)
            elif chance.random() < 0.01:
                attackers.leave(which)
            if self._is_over():
                break
        attackers.move()

    def _rest(self, attackers: Attackers, canary: Canary, watch: Watch, idle_sockets: int) -> None:
        """Everybody goes: nothing of them may stay."""
        attackers.close()
        wait_until(
            lambda: watch.descriptors("socket:") <= idle_sockets, 2 * PATIENCE_S, "the end of all connections"
        )
        canary.tidy_up()
        canary.sing()
        watch.look()
        self._resting_rss_bytes.append(watch.rss_bytes())

    def _judge_growth(self) -> None:
        grown_counts = counts_that_grow(self._samples)
        if grown_counts:
            raise Finding("\n".join(grown_counts))
        rests = self._resting_rss_bytes
        if len(rests) < JUDGED_FROM_RESTS:
            return
        quarter = len(rests) // 4
        grown = min(rests[-quarter:]) - max(rests[:quarter])
        if grown > MAX_GROWTH_BYTES:
            raise Finding(f"memory grows by {grown >> 20} MB: {[size >> 20 for size in _thinned(rests)]} MB")


def _thinned(sizes: list[int], count: int = 20) -> list[int]:
    return sizes[:: max(1, len(sizes) // count)]


def replay(directory: Path, frames: list[tuple[int, list]]) -> None:
    """Sends kept frames again, the canary after each; raises Finding that names the frame."""
    chance = random.Random(0)
    with _broker(directory) as broker:
        canary = Canary(broker.bootstrap_server)
        canary.sing()
        canary.tidy_up()
        watch = Watch(broker, MAX_RSS_BYTES)
        attackers = Attackers(broker.bootstrap_server, CONNECTIONS, Frames(chance), chance)
        for number, (which, (data, *rest)) in enumerate(frames):
            try:
                attackers.send(which, Frame(bytes.fromhex(data), *rest))
                canary.sing()
                watch.look()
            except Finding as error:
                raise Finding(f"frame {number} ({data}):\n{error}") from error
        attackers.close()
        canary.client.socket.close()
