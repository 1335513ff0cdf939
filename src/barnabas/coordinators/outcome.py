"""An outcome that is there now or comes later, and that may be a refusal either way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from barnabas.errors import KafkaError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["combine", "settle"]

R = TypeVar("R")
T = TypeVar("T")


def settle(
    operation: Callable[[], R | asyncio.Future[R]],
    then: Callable[[R], T],
    refuse: Callable[[KafkaError], T],
) -> T | asyncio.Future[T]:
    """Runs an operation, and gives `then(result)`, or `refuse(error)` for a KafkaError; a future if the result is one."""
    try:
        outcome = operation()
    except KafkaError as error:
        return refuse(error)
    if not isinstance(outcome, asyncio.Future):
        return then(outcome)
    settled: asyncio.Future[T] = outcome.get_loop().create_future()

    def done(future: asyncio.Future[R]) -> None:
        if settled.done():
            return
        if future.cancelled():
            settled.cancel()
            return
        error = future.exception()
        try:
            if error is None:
                settled.set_result(then(future.result()))
            elif isinstance(error, KafkaError):
                settled.set_result(refuse(error))
            else:
                settled.set_exception(error)
        except Exception as failure:  # noqa: BLE001 - it belongs to whoever waits, not to the loop
            settled.set_exception(failure)

    outcome.add_done_callback(done)
    return settled


def combine(outcomes: Sequence[R | asyncio.Future[R]]) -> list[R] | asyncio.Future[list[R]]:
    """All of them in order; a future if one is. The futures must not fail: `settle` them first."""
    waiting = [outcome for outcome in outcomes if isinstance(outcome, asyncio.Future)]
    if not waiting:
        return list(outcomes)  # type: ignore[arg-type]  # none of them is a future
    return waiting[0].get_loop().create_task(_gathered(outcomes), name="several coordinators' answers")


async def _gathered(outcomes: Sequence[R | asyncio.Future[R]]) -> list[R]:
    return [await outcome if isinstance(outcome, asyncio.Future) else outcome for outcome in outcomes]
