"""Async tests: a coroutine function that takes `loop` runs on it, once on uvloop and once on asyncio's own loop."""

from __future__ import annotations

import asyncio
import inspect
import time

import pytest

from barnabas.network.event_loop import HAS_UVLOOP, new_event_loop

__all__ = ["eventually", "loop", "pytest_pyfunc_call"]

TEST_DEADLINE_S = 60


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request):
    """An event loop of the test's own. A callback that fails fails the test."""
    if request.param == "uvloop" and not HAS_UVLOOP:
        pytest.skip("uvloop is not installed")
    loop = new_event_loop(with_uvloop=request.param == "uvloop")
    failures = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    yield loop
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert not failures


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run coroutine functions on the loop that they take."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}
    loop = pyfuncitem.funcargs["loop"]
    loop.run_until_complete(asyncio.wait_for(pyfuncitem.obj(**arguments), TEST_DEADLINE_S))
    return True


async def eventually(condition, deadline_s=20.0, what="the condition"):
    """Wait until `condition()` is true and give what it gave, letting the loop run meanwhile."""
    end = time.monotonic() + deadline_s
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < end, f"{what} did not come true within {deadline_s} s"
        await asyncio.sleep(0.002)
