"""What the coordinator runtime asks of a state machine, and what the machine hands back.

A shard holds the state of one partition of an internal topic. It does no I/O and reads no clock: an operation is called with
the time, may change soft state (who waits, until when), and hands back a `CoordinatorResult`. The runtime appends the records,
replays them into the shard, and releases response and completion once the records are committed. Restart, failover and
tests are the same thing: replay.

Order of things, for each result:
    1. `answers` are delivered at once.
    2. `records` are appended in one batch (several, if they do not fit and need not be atomic), before anything else happens
       to the shard.
    3. If `replay`, each record is replayed. A machine that has taken its decision into account already says `replay=False`;
       a replay of the same record on another broker must then lead to the same state.
    4. `appended` is called: what no record says (deadlines, who waits) follows what the records say. At once if there are none.
    5. Each piece of `background` is computed in a worker thread, and its `finish` run as an operation of its own.
    6. When the last record is committed: `completion.committed`, then `response`. If the append or the commit fails:
       `completion.failed`, then the error in place of the response.

Source of the idea: Kafka's `CoordinatorShard` and `CoordinatorResult` (KIP-848).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from barnabas.errors import KafkaError

__all__ = ["Answer", "Background", "Completion", "CoordinatorRecord", "CoordinatorResult", "Now", "Shard"]

R = TypeVar("R")

CoordinatorRecord = tuple[bytes, bytes | None]
"""Key and value as they lie in the log; a value of None is a tombstone."""

Answer = tuple[Any, Any]
"""A parked request's waiter, as the shell handed it in, and the response that it gets now."""


class Now(NamedTuple):
    """The time of an operation: wall-clock milliseconds for what is stored, monotonic ones for deadlines."""

    wall_ms: int
    monotonic_ms: float


class Background(NamedTuple):
    """A computation that is too long for the loop.

    Attributes:
        compute: Run in a worker thread. It must touch nothing that changes, and come to an end soon.
        finish: Run on the loop with what `compute` gave, or with the exception that it raised.
    """

    compute: Callable[[], Any]
    finish: Callable[[Any, Now], CoordinatorResult[None]]


class Completion(Protocol):
    """What a machine does once it knows the fate of the records that it wrote."""

    def committed(self, now: Now) -> CoordinatorResult[None] | None:
        """The records are committed: they survive any failure that the topic's replication survives."""
        ...

    def failed(self, error: KafkaError, now: Now) -> CoordinatorResult[None] | None:
        """The records were not appended, or nobody knows yet whether they will be committed."""
        ...


@dataclass(slots=True)
class CoordinatorResult(Generic[R]):
    """What an operation wants to happen.

    Attributes:
        response: Given to the caller once everything below is done.
        records: Written to the shard's partition.
        replay: Whether the records are replayed into the shard, or are known to it already.
        atomic: All records in one batch or none at all.
        answers: Delivered at once, whatever becomes of the records.
        completion: Told what became of the records.
        appended: Called once the records are appended (and replayed), before anything else happens to the shard. Not called if
            they could not be.
        background: What is to be computed elsewhere.
        is_awaited: Whether the response, and `completion`, wait until the records are committed. Without it nothing is synced for them:
            they are safe before anything that is written after them is.
    """

    response: R
    records: Sequence[CoordinatorRecord] = ()
    replay: bool = True
    atomic: bool = False
    answers: Sequence[Answer] = field(default=())
    completion: Completion | None = None
    appended: Callable[[Now], None] | None = None
    background: Sequence[Background] = ()
    is_awaited: bool = True


class Shard(Protocol):
    """The state machine of one partition of an internal topic."""

    def replay(
        self, offset: int, producer_id: int, producer_epoch: int, key: bytes, value: bytes | None
    ) -> None:
        """Applies a record of the log. DecodeError if it is not one that this machine writes or passes over."""
        ...

    def replay_end_transaction_marker(
        self, producer_id: int, producer_epoch: int, *, committed: bool
    ) -> None:
        """Applies the end of a producer's transaction."""
        ...

    def on_loaded(self, now: Now) -> Iterable[CoordinatorResult[None]]:
        """The whole log is replayed and this broker is the coordinator."""
        ...

    def on_unloaded(self) -> Sequence[Answer]:
        """This broker is no longer the coordinator: the answers for all who still wait."""
        ...

    def next_deadline_ms(self) -> float | None:
        """The monotonic time at which `on_timer` wants to be called, None for never."""
        ...

    def on_timer(self, now: Now) -> Iterable[CoordinatorResult[None]]:
        """Does what is due. May leave some of it for the next call, so that no call takes long."""
        ...
