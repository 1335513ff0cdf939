"""From the controller's futures to answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from barnabas.errors import ErrorCode, KafkaError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from barnabas.handlers.services import BrokerServices

__all__ = ["MALFORMED", "after", "brief", "codes"]

MALFORMED = (
    "This most likely occurs because of a request being malformed by the client library or the message was sent to an "
    "incompatible broker. See the broker logs for more details."
)
"""What Kafka says of INVALID_REQUEST where it has no words of its own."""

Result = TypeVar("Result")
Response = TypeVar("Response")

# What Kafka says of an error that comes without words of its own (`Errors.message()`).
_WORDS = {
    ErrorCode.UNKNOWN_TOPIC_OR_PARTITION: "This server does not host this topic-partition.",
    ErrorCode.UNKNOWN_TOPIC_ID: "This server does not host this topic ID.",
    ErrorCode.NOT_CONTROLLER: "This is not the correct controller for this cluster.",
}


_SHOWN_NAMES = 3
_SHOWN_LENGTH = 249


def codes(error: KafkaError | None) -> tuple[int, str | None]:
    """Code and message as they stand in an answer; (0, None) for no error."""
    if error is None:
        return 0, None
    return error.code, error.message or _WORDS.get(error.code)


def brief(names: Iterable[str]) -> str:
    """A few names for a log line, however many there are."""
    every = list(names)
    shown = ",".join(name[:_SHOWN_LENGTH] for name in every[:_SHOWN_NAMES])
    return shown if len(every) <= _SHOWN_NAMES else f"{shown} and {len(every) - _SHOWN_NAMES} more"


def after(
    broker: BrokerServices,
    operation: Callable[[], asyncio.Future[Result]],
    answer: Callable[[Result | KafkaError], Response],
) -> asyncio.Future[Response]:
    """Begins an operation now, in arrival order, and answers with what `answer` makes of its result or its failure."""
    response: asyncio.Future[Response] = broker.loop.create_future()
    try:
        future = operation()
    except KafkaError as error:
        response.set_result(answer(error))
        return response

    def done(result: asyncio.Future[Any]) -> None:
        error = None if result.cancelled() else result.exception()  # asked for though nobody waits any more
        if response.done():
            return
        if result.cancelled():
            response.cancel()
            return
        try:
            if error is None:
                response.set_result(answer(result.result()))
            elif isinstance(error, KafkaError):
                response.set_result(answer(error))
            else:
                response.set_exception(error)
        except Exception as unforeseen:  # noqa: BLE001 - the dispatcher logs it and closes the connection
            response.set_exception(unforeseen)

    future.add_done_callback(done)
    return response
