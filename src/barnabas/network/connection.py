"""A connection without its socket: bytes in, requests out; answers in, bytes out, in the order of the requests.

The seam to the handlers is one callable, handed in:

    dispatch(context: ConnectionContext, frame: memoryview) -> Answer

`frame` is one request, header and body, without the four bytes of length before it. It is a view of a buffer
that is reused as soon as `dispatch` returns: what is needed longer must be copied. It may be written to. `dispatch`
is called in order of arrival, never inside itself, and returns one of

    bytes | bytearray      the response, header and body; the connection writes the length before it
    a list of chunks       the same in pieces: bytes-likes and file regions
    None                   no answer (acks=0)
    Parked(future, encode, cut_short)
                           the answer will come; the answers of later requests wait for it, but the requests
                           themselves are dispatched meanwhile

A `DecodeError` (the client's fault) or `CloseConnection` (there is no answer that says what is wrong) raised by
`dispatch` is logged as one line, any other exception is ours and logged with its traceback; all of them close
the connection after the answers to its earlier requests. So whoever writes `dispatch` turns errors that have an
answer into that answer.

Framing: "The server guarantees that on a single TCP connection, requests will be processed in the order they are
sent and responses will return in that order as well" (Kafka protocol guide, Network). A frame is a signed 32-bit
big-endian length and so many bytes.

The connection knows neither sockets nor the loop. Whoever drives it (`channel.Channel`, or a simulated network)

    - gives it bytes while `wants_bytes()`: `receive(data)`, or straight into `space()` and then `filled(count)`;
    - says `receive_end()` at the end of the stream;
    - sends what stands in `outgoing`, and calls `advance()` afterwards, and whenever `wake` has been called;
    - closes the connection when `is_finished`, or at any time: `close()`.
"""

from __future__ import annotations

import logging
from enum import Enum
from struct import Struct
from typing import TYPE_CHECKING

from barnabas.errors import CloseConnection, DecodeError
from barnabas.network.bad_frames import describe_bad_length
from barnabas.network.context import format_address
from barnabas.network.outgoing import BYTES_LIKE, Outgoing, size_of
from barnabas.network.parked import Parked

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from barnabas.network.context import ConnectionContext
    from barnabas.network.limits import NetworkLimits
    from barnabas.network.parked import Answer, Encoded
    from barnabas.network.request_memory import RequestMemory

    Dispatch = Callable[[ConnectionContext, memoryview], Answer]

__all__ = ["Connection", "State"]

logger = logging.getLogger(__name__)

LENGTH = Struct(">i")
LENGTH_BYTES = 4
_length_at = LENGTH.unpack_from
_pack_length = LENGTH.pack

DISPATCHES_PER_TURN_MAX = 256
"""Requests of one connection handled in one turn of the loop, so that others are not kept waiting."""


class State(Enum):
    """Legal transitions: each state to any of the later ones, never back."""

    OPEN = "open"
    ENDED = "ended"  # the client sends nothing more; requests that were put aside are still dispatched
    DRAINING = "draining"  # no more requests are dispatched; the answers to the earlier ones still leave
    FLUSHING = "flushing"  # an answer failed: the ones before it still leave, the ones behind it never will
    CLOSED = "closed"


# A member of an enum is looked up through its class's metaclass, which costs as much as a call; these are looked up as
# globals.
_OPEN = State.OPEN
_ENDED = State.ENDED
_DRAINING = State.DRAINING
_FLUSHING = State.FLUSHING
_CLOSED = State.CLOSED

TAKES_REQUESTS = frozenset({_OPEN, _ENDED})


class Connection:
    """See the module. `wake` is called when something is to be sent or done outside a call from the driver.

    Attributes:
        context: What handlers see of the connection.
        limits: May be replaced at any time.
        outgoing: What is to be sent.
        state: Where in its life the connection is.
        failure: Why the connection was broken off, for the log; None if it was not.
        request_count: Requests dispatched so far.
        unfinished: The buffer of a frame that has begun, or of its length; None between frames.
    """

    __slots__ = (
        "_answers",
        "_backlog",
        "_backlog_bytes",
        "_charged_bytes",
        "_dispatch",
        "_filled",
        "_is_hastened",
        "_is_length",
        "_memory",
        "_waiting_bytes",
        "_wake",
        "context",
        "failure",
        "limits",
        "outgoing",
        "request_count",
        "state",
        "unfinished",
    )

    def __init__(
        self,
        context: ConnectionContext,
        dispatch: Dispatch,
        limits: NetworkLimits,
        memory: RequestMemory,
        wake: Callable[[], None],
    ) -> None:
        self.context = context
        self.limits = limits
        self.outgoing = Outgoing()
        self.state = _OPEN
        self.failure: str | None = None
        self.request_count = 0
        self._dispatch = dispatch
        self._memory = memory
        self._wake = wake
        # How much of `unfinished` is filled, and whether it is only the length.
        self.unfinished: memoryview | None = None
        self._filled = 0
        self._is_length = False
        self._charged_bytes = 0
        # Bytes that arrived but may not be dispatched yet. They begin at a frame.
        self._backlog: memoryview | None = None
        self._backlog_bytes = 0
        # Answers from the first parked one on, in order of their requests. Invariant: the first one is parked,
        # or outgoing is full.
        self._answers: list[Parked | Encoded] = []
        self._waiting_bytes = 0
        self._is_hastened = False

    # --- bytes in

    # A method, not a property: it is asked for each request, and to call one costs half as much.
    def wants_bytes(self) -> bool:
        """Whether bytes may be given to the connection now."""
        return (
            self.state is _OPEN
            and self._backlog is None
            and not ((self._answers or self.outgoing.pending_bytes) and self._is_saturated)
        )

    @property
    def is_within_frame(self) -> bool:
        """Whether a frame has begun for which memory was taken."""
        return self._charged_bytes > 0

    @property
    def _is_saturated(self) -> bool:
        """So much waits for the client, or for us, that no further request is to be handled."""
        limits = self.limits
        return (
            len(self._answers) >= limits.pipelined_requests_max
            or self.outgoing.pending_bytes + self._waiting_bytes + self.context.held_bytes
            >= limits.outgoing_bytes_max
        )

    def space(self) -> memoryview:
        """Where the next bytes of the unfinished frame belong, which there must be."""
        assert self.unfinished is not None
        return self.unfinished[self._filled :]

    def filled(self, count: int) -> None:
        """`count` bytes that arrived were written to the beginning of `space()`."""
        buffer = self.unfinished
        assert buffer is not None
        self._filled += count
        assert self._filled <= len(buffer)
        if self._filled < len(buffer):
            return
        self.unfinished = None
        if self._is_length:
            self._is_length = False
            size: int = LENGTH.unpack(buffer)[0]
            if not 0 <= size <= self.limits.request_bytes_max:
                self._fail_on_length(size)
                return
            self._begin_frame(size)
            if size == 0:
                self.filled(0)
            return
        self._end_frame()
        self._dispatch_one(buffer)
        self._memory.give(buffer)

    def receive(self, data: memoryview) -> None:
        """Take bytes that arrived, however they are cut. `data` is not used after the call."""
        end = len(data)
        if (
            self.unfinished is None
            and end >= LENGTH_BYTES
            and _length_at(data)[0] == end - LENGTH_BYTES <= self.limits.request_bytes_max
            and self.state is _OPEN
        ):
            # One whole request and nothing else, as a client sends that waits for each answer.
            self._dispatch_one(data[LENGTH_BYTES:])
            return
        while self.unfinished is not None and len(data):
            count = min(len(data), len(self.unfinished) - self._filled)
            self.unfinished[self._filled : self._filled + count] = data[:count]
            self.filled(count)
            data = data[count:]
        if not len(data) or self.state is not _OPEN:
            return
        assert self._backlog is None, "bytes were given that were not wanted"
        self._dispatch_frames(data, is_backlog=False)

    def _dispatch_frames(self, data: memoryview, *, is_backlog: bool) -> None:
        """Dispatch the whole frames in `data`, keep the rest."""
        unpack_from = _length_at
        request_bytes_max = self.limits.request_bytes_max
        outgoing = self.outgoing
        end = len(data)
        position = 0
        dispatched = 0
        while end - position >= LENGTH_BYTES and self.state in TAKES_REQUESTS:
            (size,) = unpack_from(data, position)
            if not 0 <= size <= request_bytes_max:
                self._fail_on_length(size)
                return
            frame_start = position + LENGTH_BYTES
            frame_end = frame_start + size
            if frame_end > end:
                break
            if dispatched == DISPATCHES_PER_TURN_MAX or (
                (self._answers or outgoing.pending_bytes) and self._is_saturated
            ):
                rest = data[position:]
                self._put_aside(rest if is_backlog else memoryview(bytearray(rest)))
                return
            position = frame_end
            dispatched += 1
            self._dispatch_one(data[frame_start:frame_end])
        if position < end and self.state in TAKES_REQUESTS:
            self._begin_unfinished(data[position:])

    def _begin_unfinished(self, rest: memoryview) -> None:
        """Keep the beginning of a frame in a buffer of its own."""
        if len(rest) < LENGTH_BYTES:
            self.unfinished = memoryview(bytearray(LENGTH_BYTES))
            self._is_length = True
        else:
            self._begin_frame(LENGTH.unpack_from(rest)[0])
            rest = rest[LENGTH_BYTES:]
        assert self.unfinished is not None
        self._filled = len(rest)
        self.unfinished[: self._filled] = rest

    def _begin_frame(self, size: int) -> None:
        self.unfinished = self._memory.take(size)
        self._filled = 0
        self._charged_bytes = size
        self._memory.charge(size)

    def _end_frame(self) -> None:
        size, self._charged_bytes = self._charged_bytes, 0
        self._memory.discharge(size)

    def _put_aside(self, data: memoryview | None) -> None:
        """Replace the backlog."""
        before = self._backlog_bytes
        self._backlog = data
        self._backlog_bytes = 0 if data is None else len(data)
        self._memory.charge(self._backlog_bytes)
        self._memory.discharge(before)
        if data is not None and not self._is_saturated:
            self._wake()

    def _dispatch_one(self, frame: memoryview) -> None:
        self.request_count += 1
        try:
            answer = self._dispatch(self.context, frame)
        except DecodeError as error:
            self._fail(f"malformed request: {error}")
            return
        except CloseConnection as error:
            self._fail(str(error), logging.INFO)
            return
        except Exception:  # noqa: BLE001 - whatever went wrong, the other connections go on
            self._fail("a request could not be handled", logging.ERROR, has_traceback=True)
            return
        if type(answer) is bytes and not self._answers and self.state is not _CLOSED:
            self.outgoing.append(answer, _pack_length(len(answer)))  # as nearly always
            return
        if answer is None or self.state is _CLOSED:
            return
        if type(answer) is Parked:
            if self._answers or not answer.future.done():
                self._answers.append(answer)
                answer.future.add_done_callback(self._on_done)
                if self._is_hastened:
                    self._cut_short()
                return
            self._encode(answer)
        elif self._answers:
            self._answers.append(answer)
            self._waiting_bytes += _size_of(answer)
        else:
            self._enqueue(answer)

    # --- answers out

    def _enqueue(self, answer: Encoded) -> None:
        if type(answer) is bytes or type(answer) is bytearray:
            self.outgoing.append(answer, _pack_length(len(answer)))
        elif answer is not None:
            self.outgoing.extend([LENGTH.pack(_size_of(answer)), *answer])

    def _encode(self, parked: Parked) -> None:
        """Encode and queue an answer whose turn has come."""
        try:
            self._enqueue(parked.encode(parked.future))
        except CloseConnection as error:
            self._fail(str(error), logging.INFO)
        except Exception:  # noqa: BLE001 - whatever went wrong, the other connections go on
            self._fail("an answer could not be encoded", logging.ERROR, has_traceback=True)
        else:
            return
        # The answers behind this one must not leave in its place.
        if self.state is not _CLOSED:
            self.state = _FLUSHING
        self._drop_answers()

    def _on_done(self, _future: asyncio.Future[object]) -> None:
        """A parked answer is there."""
        if self.state in (_FLUSHING, _CLOSED):
            self._drop_answers()
            return
        first = self._answers[0] if self._answers else None
        if type(first) is Parked and first.future.done():
            self._enqueue_ready()
            self._wake()

    def _enqueue_ready(self) -> None:
        """Queue the answers whose turn has come, as long as the client reads its answers."""
        answers = self._answers
        outgoing_bytes_max = self.limits.outgoing_bytes_max
        while answers and self.outgoing.pending_bytes < outgoing_bytes_max:
            first = answers[0]
            if type(first) is Parked:
                if not first.future.done():
                    return
                del answers[0]
                self._encode(first)
            else:
                del answers[0]
                self._waiting_bytes -= _size_of(first)
                self._enqueue(first)

    def advance(self) -> None:
        """Go on with what had to wait: answers until `outgoing` had room, requests until the answers were few."""
        if self.state in (_FLUSHING, _CLOSED):
            return
        if self._answers:
            self._enqueue_ready()
        backlog = self._backlog
        if backlog is not None and not self._is_saturated:
            self._put_aside(None)
            self._dispatch_frames(backlog, is_backlog=True)
        if self.state is _ENDED and self._backlog is None:
            self.drain()

    # --- the end

    @property
    def is_finished(self) -> bool:
        """All that was accepted has been answered, and nothing more will be accepted."""
        if self.outgoing:
            return False
        return self.state is _FLUSHING or (self.state is _DRAINING and not self._answers)

    def is_settled(self) -> bool:
        """Nothing is left to do once `outgoing` has left."""
        return self.state is _OPEN and not self._answers and self._backlog is None

    @property
    def awaits_us(self) -> bool:
        """The connection is quiet because an answer is not there yet, not because the client is."""
        return bool(self._answers) and not self.outgoing

    def receive_end(self) -> None:
        """The client will send nothing more; it may still read."""
        if self.unfinished is not None:
            logger.info(
                "%s ended its connection in the middle of a request",
                format_address(self.context.client_address),
            )
        if self.state is _OPEN:
            self.state = _ENDED
            if self._backlog is None:
                self.drain()

    def drain(self) -> None:
        """Take no more requests, cut waiting short, finish the answers to what was accepted."""
        if self.state in TAKES_REQUESTS:
            self.state = _DRAINING
            self._drop_received()
            self._cut_short()

    def hasten(self) -> None:
        """The client has ended its side behind requests that are not read yet: no answer is worth waiting for.

        Otherwise a client that sends more fetches than are handled at once, each with a long wait, and goes away
        would leave its connection, and what it holds, behind for as long as it asked to wait.
        """
        self._is_hastened = True
        self._cut_short()

    def _cut_short(self) -> None:
        for answer in tuple(self._answers):
            if type(answer) is Parked and answer.cut_short is not None and not answer.future.done():
                cut_short, answer.cut_short = answer.cut_short, None
                cut_short()

    def _abandon(self) -> None:
        for answer in tuple(self._answers):
            if type(answer) is Parked and answer.abandon is not None and not answer.future.done():
                abandon, answer.abandon = answer.abandon, None
                abandon()

    def close(self) -> None:
        """End at once: nothing is kept, nothing more is sent."""
        if self.state is _CLOSED:
            return
        self.state = _CLOSED
        self._drop_received()
        self._abandon()
        self._cut_short()
        self._drop_answers()
        self.outgoing.clear()

    def _drop_received(self) -> None:
        if self.unfinished is not None:
            buffer, self.unfinished = self.unfinished, None
            if self._charged_bytes:
                self._end_frame()
                self._memory.give(buffer)
        if self._backlog is not None:
            self._put_aside(None)

    def _drop_answers(self) -> None:
        """Release what is held by answers that nobody will read; those still parked follow when they are done."""
        remaining: list[Parked | Encoded] = []
        for answer in self._answers:
            if type(answer) is not Parked:
                _release(answer)
            elif not answer.future.done():
                remaining.append(answer)
            else:
                try:
                    _release(answer.encode(answer.future))
                except CloseConnection:
                    pass  # it was abandoned
                except Exception:
                    logger.debug("An answer that nobody waits for could not be encoded", exc_info=True)
        self._answers[:] = remaining
        self._waiting_bytes = 0

    def _fail_on_length(self, size: int) -> None:
        self._fail(describe_bad_length(size, self.limits.request_bytes_max))

    def _fail(self, reason: str, level: int = logging.WARNING, *, has_traceback: bool = False) -> None:
        """Break off: nothing that arrived from here on is handled."""
        if self.state is _CLOSED:
            return
        self.failure = reason
        logger.log(
            level,
            "Closing the connection from %s (%s): %s",
            format_address(self.context.client_address),
            self.context.connection_id,
            reason,
            exc_info=has_traceback,
        )
        self.drain()


def _size_of(answer: Encoded) -> int:
    if answer is None:
        return 0
    if not isinstance(answer, (bytes, bytearray)):
        return sum(map(size_of, answer))
    return len(answer)


def _release(answer: Encoded) -> None:
    if answer is not None and not isinstance(answer, (bytes, bytearray)):
        for chunk in answer:
            if not isinstance(chunk, BYTES_LIKE):
                chunk.release()
