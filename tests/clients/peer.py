"""A real Kafka client as a program of its own, driven by jobs: one client, one program, one language for all.

A program reads one job per line from stdin and writes what happens, one JSON object per line, to stdout. Several
jobs run side by side, each known by its number:

    -> {"job": 7, "do": "produce", "bootstrap": "127.0.0.1:9092", "topic": "events", ...}
    <- {"job": 7, "record": {...}}          events of the job, if it has any
    <- {"job": 7, "done": ...}              its result, the last line of the job
    <- {"job": 7, "failed": "...", "code": 3}   or its failure, with Kafka's error code where there is one

A job that runs until it is told otherwise (a group's member, a steady producer) ends on `{"job": 7, "stop": true}`.
Before the first job a program says which client it is: `{"ready": "kafkajs 2.2.4"}`. It ends with its stdin.

Keys, values and header values are base64 or null; headers are a list of [name, value]. A record reads

    {"topic": "events", "partition": 0, "offset": 12, "timestamp": 1700000000000, "key": "aw==", "value": null,
     "headers": [["trace", "AA=="]]}

The jobs:

    produce    topic, codec, idempotent, records     -> [[partition, offset], ...] in the order of the records
    read       topic, from                           record events of all partitions up to their ends -> their number
               from: "earliest", {"timestamp": ms} or {"offset": n}
    member     topics, group, strategy, instance     events: assigned [[topic, partition], ...] (all it has now),
               until told to stop; it then leaves    records [...] and then committed, once their offsets are committed
    steady     topic, partitions, prefix             events: acked [key, partition, offset], one by one,
               until told to stop                    keys are "<prefix>-<n>"; a broker that is away is waited for
               confluent-kafka and Java also take pause_ms (between records), pending (how many may be unanswered) and
               settings (of the client); the former takes flush_s, and settings for a member
    process    topics, topic, group, abort_every,    events: committed n, of each transaction that reads records of
               transactional_id, instance            topics[0], writes them to topic and commits both; trouble "..."
               until told to stop                    every so manieth one is aborted and done again; after an error
                                                     it starts over with new clients, from what is committed
    admin      call, ...                             -> see each program; a failure carries Kafka's code
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = ["Job", "JobFailedError", "Peer", "ReadRecord", "decoded", "encoded", "read_record"]

_START_DEADLINE_S = 60
_JOB_DEADLINE_S = 60


class JobFailedError(Exception):
    """What a client raised; `code` is Kafka's error code, or None."""

    def __init__(self, message: str, code: int | None) -> None:
        super().__init__(message)
        self.code = code


class ReadRecord(NamedTuple):
    """A record as a client read it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def encoded(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def decoded(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)


def read_record(event: Mapping[str, Any]) -> ReadRecord:
    return ReadRecord(
        event["topic"],
        event["partition"],
        event["offset"],
        event["timestamp"],
        decoded(event["key"]),
        decoded(event["value"]),
        tuple((name, decoded(value)) for name, value in event["headers"]),
    )


class Job:
    """A job under way; its events are kept, and the records that a reader or member got."""

    def __init__(self, peer: Peer, number: int, what: str) -> None:
        self.peer = peer
        self.number = number
        self.what = what
        self.events: list[dict[str, Any]] = []
        self.event_arrivals: list[float] = []
        """When each of the events came here; seconds of `time.time()`."""
        self.records: list[ReadRecord] = []
        self.arrivals: list[float] = []
        """When each of the records came here; seconds of `time.time()`."""
        self._changed = threading.Condition()

    def receive(self, event: dict[str, Any]) -> None:
        """Called by the peer's reading thread."""
        with self._changed:
            if "record" in event:
                self.records.append(read_record(event["record"]))
                self.arrivals.append(time.time())
            elif "records" in event:
                self.records += map(read_record, event["records"])
                self.arrivals += [time.time()] * len(event["records"])
            else:
                self.event_arrivals.append(time.time())
                self.events.append(event)
            self._changed.notify_all()

    def wait_for(
        self, condition: Callable[[], Any], what: str = "the condition", deadline_s: float = _JOB_DEADLINE_S
    ) -> Any:
        """Waits until the condition, asked after each event, is true, and gives what it gave."""
        end = time.monotonic() + deadline_s
        with self._changed:
            while True:
                self.raise_failure()
                result = condition()
                if result:
                    return result
                if not self._changed.wait(end - time.monotonic()) and time.monotonic() >= end:
                    raise AssertionError(
                        f"{self.peer.name}, {self.what}: {what} did not come true within {deadline_s} s; "
                        f"last events: {self.events[-5:]}\n{self.peer.log_tail()}"
                    )

    def raise_failure(self) -> None:
        if self.events and "failed" in self.events[-1]:
            failure = self.events[-1]
            raise JobFailedError(f"{self.peer.name}, {self.what}: {failure['failed']}", failure.get("code"))

    @property
    def ended(self) -> bool:
        return bool(self.events) and ("done" in self.events[-1] or "failed" in self.events[-1])

    def result(self, deadline_s: float = _JOB_DEADLINE_S) -> Any:
        """What the job gave in the end.

        Raises:
            JobFailedError: it failed.
        """
        self.wait_for(lambda: self.ended, "its end", deadline_s)
        return self.events[-1]["done"]

    def stop(self, deadline_s: float = _JOB_DEADLINE_S) -> Any:
        """Asks it to end, waits for that, and gives its result."""
        self.peer.send({"job": self.number, "stop": True})
        return self.result(deadline_s)

    def all_of(self, kind: str) -> list[Any]:
        """What all events of one kind carry, in order."""
        return [event[kind] for event in self.events if kind in event]

    @property
    def assigned(self) -> list[tuple[str, int]]:
        """The partitions that a member has now, in order."""
        assignments = self.all_of("assigned")
        return sorted((topic, partition) for topic, partition in assignments[-1]) if assignments else []


class Peer:
    """A client's program; started when made."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_path: Path,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._log_path = log_path
        self._jobs: dict[int, Job] = {}
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self.client = ""
        with log_path.open("a") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=directory,
                env=None if environment is None else dict(environment),
            )
        self._reader = threading.Thread(target=self._read, name=f"peer-{name}", daemon=True)
        self._reader.start()
        if not self._ready.wait(_START_DEADLINE_S) or not self.client:
            self.kill()
            raise AssertionError(f"{name} did not start:\n{self.log_tail()}")

    def start(self, do: str, **fields: Any) -> Job:
        """Starts a job."""
        with self._lock:
            job = Job(self, len(self._jobs) + 1, f"{do} {fields.get('call', '')}".strip())
            self._jobs[job.number] = job
        self.send({"job": job.number, "do": do, **fields})
        return job

    def call(self, do: str, **fields: Any) -> Any:
        """Starts a job, waits for its end and gives its result."""
        return self.start(do, **fields).result()

    def send(self, message: Mapping[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            assert self.process.stdin is not None
            try:
                self.process.stdin.write(line)
                self.process.stdin.flush()
            except BrokenPipeError:
                raise AssertionError(f"{self.name} has ended:\n{self.log_tail()}") from None

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                event = None
            if not isinstance(event, dict):  # a client that chats on stdout
                with self._log_path.open("ab") as log:
                    log.write(line)
            elif "ready" in event:
                self.client = event["ready"]
                self._ready.set()
            else:
                self._jobs[event["job"]].receive(event)
        self._ready.set()
        for job in list(self._jobs.values()):
            if not job.ended:
                job.receive({"failed": f"the program ended:\n{self.log_tail()}"})

    def log_tail(self, size_bytes: int = 3000) -> str:
        return self._log_path.read_bytes()[-size_bytes:].decode(errors="replace")

    def kill(self) -> None:
        """Kill -9: nothing is left or closed in an orderly way."""
        self.process.kill()
        self._end()

    def close(self) -> None:
        """Ends it by closing its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._end()

    def _end(self) -> None:
        self.process.wait()
        self._reader.join(10)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()
