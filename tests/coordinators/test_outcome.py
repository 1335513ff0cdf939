"""Outcomes that are there now or come later."""

import asyncio

import pytest

from barnabas.coordinators.outcome import combine, settle
from barnabas.errors import ErrorCode, KafkaError

REFUSAL = KafkaError(ErrorCode.NOT_COORDINATOR)


def told(operation):
    return settle(operation, then=lambda result: f"got {result}", refuse=lambda error: error.code)


def refused():
    raise REFUSAL


def test_a_result_is_answered_at_once():
    """Without a loop."""
    assert told(lambda: 7) == "got 7"
    assert told(refused) is ErrorCode.NOT_COORDINATOR


async def test_a_future_is_answered_when_it_is_done(loop):
    """With its result, or with its refusal."""
    good, bad = loop.create_future(), loop.create_future()
    outcomes = told(lambda: good), told(lambda: bad)
    good.set_result(7)
    bad.set_exception(REFUSAL)
    assert await asyncio.gather(*outcomes) == ["got 7", ErrorCode.NOT_COORDINATOR]


async def test_what_is_no_refusal_is_passed_on(loop):
    """A defect, in the operation or in what is made of its result, belongs to whoever waits; so does a cancellation."""
    futures = [loop.create_future() for _ in range(3)]
    defect = told(lambda: futures[0])
    cancelled = told(lambda: futures[1])
    late = settle(lambda: futures[2], then=lambda number: 1 // number, refuse=lambda _: None)
    futures[0].set_exception(RuntimeError("a defect"))
    futures[1].cancel()
    futures[2].set_result(0)
    for outcome, error in (
        (defect, RuntimeError),
        (cancelled, asyncio.CancelledError),
        (late, ZeroDivisionError),
    ):
        with pytest.raises(error):
            await outcome


async def test_nobody_is_answered_twice(loop):
    """Whoever has gone is not looked for."""
    future = loop.create_future()
    outcome = told(lambda: future)
    outcome.cancel()
    future.set_result(7)
    await asyncio.sleep(0)
    assert outcome.cancelled()


async def test_several_outcomes_keep_their_order(loop):
    """At once if all are there; otherwise when the last one is."""
    assert combine([1, 2]) == [1, 2]
    assert combine([]) == []
    later = loop.create_future()
    both = combine([1, later, 3])
    assert not both.done()
    later.set_result(2)
    assert await both == [1, 2, 3]
