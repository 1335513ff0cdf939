"""Real clients at work, and what they write down: idempotent producers with acks=all, and a group that reads what they write."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from tests.clients.peer import Peer
from tests.clients.programs import program
from tests.fault_matrix.history import Acknowledged, History, Place, Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tests.clients.peer import ReadRecord
    from tests.fault_matrix.network import Site

__all__ = ["PARTITIONS", "Load", "topic_of", "write_down"]

PARTITIONS = 3
"""Of the topic of each producer."""

PAUSE_MS = 10
"""Between two records of a producer."""

REQUEST_TIMEOUT_MS = 5000
"""After which a client takes a request for lost; its own 30 or 60 s would be all that is measured."""

_PRODUCER_SETTINGS: Mapping[str, Mapping[str, object]] = {
    "confluent-kafka": {
        "acks": "all",
        "socket.timeout.ms": REQUEST_TIMEOUT_MS,
        "message.timeout.ms": 300_000,
        "log_level": 4,
    },
    "java-3.9": {
        "acks": "all",
        "enable.idempotence": "true",
        "request.timeout.ms": REQUEST_TIMEOUT_MS,
        "delivery.timeout.ms": 300_000,
        "max.block.ms": 300_000,
        "metadata.max.age.ms": 5000,
    },
}
_MEMBER_SETTINGS = {"socket.timeout.ms": REQUEST_TIMEOUT_MS, "log_level": 4, "auto.commit.interval.ms": 1000}
_FLUSH_S = 120
_READ_DEADLINE_S = 120


def topic_of(client: str) -> str:
    """Each producer has a topic of its own."""
    return f"by-{client}"


class Load:
    """Producers and a group, from the moment it is made until `finish`."""

    def __init__(
        self, directory: Path, site: Site, bootstrap: str, clients: Sequence[str], group: str
    ) -> None:
        self.places = [Place(topic_of(client), number) for client in clients for number in range(PARTITIONS)]
        self._directory = directory
        self._site = site
        self._bootstrap = bootstrap
        self._peers: list[Peer] = []
        self._producers = {}
        try:
            reader = self._peer("confluent-kafka", "group")
            self._member = reader.start(
                "member",
                bootstrap=bootstrap,
                topics=[topic_of(client) for client in clients],
                group=group,
                strategy="range",
                settings=_MEMBER_SETTINGS,
            )
            for client in clients:
                self._producers[client] = self._peer(client, f"producer-{client}").start(
                    "steady",
                    bootstrap=bootstrap,
                    topic=topic_of(client),
                    partitions=PARTITIONS,
                    prefix=client,
                    pause_ms=PAUSE_MS,
                    pending=1_000_000,
                    flush_s=_FLUSH_S,
                    settings=_PRODUCER_SETTINGS[client],
                )
        except BaseException:
            self.kill()
            raise

    def _peer(self, client: str, name: str) -> Peer:
        found = program(client)
        peer = Peer(
            name,
            [*self._site.before, *found.command],
            log_path=self._directory / f"{name}.log",
            environment=found.environment,
        )
        self._peers.append(peer)
        return peer

    def acknowledgements(self, since_s: float = 0.0) -> dict[Place, int]:
        """How many there were from a time on (of `time.time()`), by partition."""
        counts = dict.fromkeys(self.places, 0)
        for place, _ in self._acknowledged_at(since_s):
            counts[place] += 1
        return counts

    def deliveries(self, since_s: float = 0.0) -> dict[Place, int]:
        """How many records the group got from a time on, by partition."""
        counts = dict.fromkeys(self.places, 0)
        for record, at_s in zip(list(self._member.records), list(self._member.arrivals), strict=False):
            if at_s >= since_s:
                counts[Place(record.topic, record.partition)] += 1
        return counts

    def _acknowledged_at(self, since_s: float) -> list[tuple[Place, float]]:
        return [
            (Place(topic_of(client), event["acked"][1]), at_s)
            for client, job in self._producers.items()
            for event, at_s in zip(list(job.events), list(job.event_arrivals), strict=False)
            if "acked" in event and at_s >= since_s
        ]

    def check(self) -> None:
        """Fails if a client has given up."""
        for job in (self._member, *self._producers.values()):
            job.raise_failure()

    def wait_for(self, condition: Callable[[], object], what: str, deadline_s: float) -> None:
        """Waits for something, as long as all clients go on."""
        end = time.monotonic() + deadline_s
        while not condition():
            self.check()
            assert time.monotonic() < end, f"{what} did not come true within {deadline_s:g} s"
            time.sleep(0.1)

    def finish(self) -> History:
        """Ends the producers, waits until the group has read all, and reads the log."""
        for job in self._producers.values():
            job.stop(_FLUSH_S + 30)
        history = History(acknowledged=self._acknowledged())
        reader = self._peer("confluent-kafka", "reader")
        for client in self._producers:
            job = reader.start(
                "read", bootstrap=self._bootstrap, topic=topic_of(client), **{"from": "earliest"}
            )
            job.result(_READ_DEADLINE_S)
            history.log += [
                _seen(record, at_s) for record, at_s in zip(job.records, job.arrivals, strict=True)
            ]
        wanted = {(seen.place, seen.offset) for seen in history.log}

        def got() -> set[tuple[Place, int]]:
            return {
                (Place(record.topic, record.partition), record.offset)
                for record in list(self._member.records)
            }

        end = time.monotonic() + _READ_DEADLINE_S
        while not wanted <= got() and time.monotonic() < end:
            self._member.raise_failure()
            time.sleep(0.5)
        self._member.stop()
        history.consumed = [
            _seen(record, at_s)
            for record, at_s in zip(self._member.records, self._member.arrivals, strict=True)
        ]
        return history

    def _acknowledged(self) -> list[Acknowledged]:
        found = []
        for client, job in self._producers.items():
            for event, at_s in zip(job.events, job.event_arrivals, strict=True):
                if "acked" in event:
                    key, partition, offset = event["acked"]
                    number = int(key.rpartition("-")[2])
                    found.append(
                        Acknowledged(Place(topic_of(client), partition), client, number, offset, at_s)
                    )
        return found

    def kill(self) -> None:
        for peer in self._peers:
            peer.kill()


def _seen(record: ReadRecord, at_s: float) -> Seen:
    assert record.key is not None
    producer, _, number = record.key.decode().rpartition("-")
    return Seen(Place(record.topic, record.partition), record.offset, producer, int(number), at_s)


def write_down(history: History, path: Path) -> None:
    """One event a line, so that a verdict can be looked into."""
    with path.open("w") as file:
        for kind in ("acknowledged", "consumed", "log"):
            for event in getattr(history, kind):
                file.write(json.dumps({kind: event._asdict()}) + "\n")
