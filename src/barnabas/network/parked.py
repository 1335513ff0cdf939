"""The answer that is not there yet, and what else a dispatcher may return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Union, final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from barnabas.wire.chunks import FileRegion

__all__ = ["Answer", "Completion", "Encoded", "Parked"]

Encoded: TypeAlias = Union[
    "bytes", "bytearray", "Sequence[bytes | bytearray | memoryview | FileRegion]", None
]
"""A response, header and body, without the length before it; None if the request has no answer.

No chunk may be a view of the request's frame: that buffer is reused before the answer leaves.
"""

Answer: TypeAlias = Union[Encoded, "Parked"]
"""What a dispatcher returns for a request."""


class Completion(Protocol):
    """What a parked answer waits for: an `asyncio.Future`, or something simpler that behaves like one.

    Other than a future it may call back at once when it completes.
    """

    def done(self) -> bool:
        """Whether it is there."""
        ...

    def add_done_callback(self, callback: Callable[[Any], None], /) -> None:
        """Calls `callback` with itself when it is there."""
        ...


@final
class Parked:
    """Holds the place of an answer among the answers of its connection until `future` is done.

    Attributes:
        future: Any result or exception; not cancelled by the connection.
        encode: Called with the done future, once, on the loop, when the answer's turn has come (all earlier
            answers of the connection are on their way). It turns an exception in the future into the
            answer that says so; what it raises itself closes the connection (`CloseConnection` with one log
            line, anything else with a traceback). It is called for a
            connection that has ended, too, so that file regions among the chunks can be released.
        cut_short: If there is one, it asks the room that waits to complete `future` soon with what there is.
            Called at most once: when the client has gone or the broker stops.
        abandon: If there is one, it asks the room that waits to leave off: nobody gets the answer any more, and nothing
            but the answer was asked for. It completes `future` soon, with whatever. Called at most once, when the
            connection is closed.
    """

    __slots__ = ("abandon", "cut_short", "encode", "future")

    def __init__(
        self,
        future: Completion,
        encode: Callable[[Any], Encoded],
        cut_short: Callable[[], None] | None = None,
        abandon: Callable[[], None] | None = None,
    ) -> None:
        self.future = future
        self.encode = encode
        self.cut_short = cut_short
        self.abandon = abandon
