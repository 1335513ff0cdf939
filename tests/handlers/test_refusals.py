"""Tests of `barnabas.handlers.refusals`: who is refused is told, and nobody is told the same all the time."""

import logging
from types import SimpleNamespace

import pytest

from barnabas.errors import ErrorCode, KafkaError
from barnabas.handlers.refusals import RefusalLog

CONTEXT = SimpleNamespace(
    api_key=0, api_version=9, client_id="shop", connection=SimpleNamespace(client_address=("10.0.0.1", 5))
)


@pytest.fixture
def told(caplog):
    """`told(code, count)` refuses so often; what was written since, at INFO and above."""
    caplog.set_level(logging.DEBUG, "barnabas.refused")
    clock = SimpleNamespace(now=0.0)
    clock.monotonic_ms = lambda: clock.now
    log = RefusalLog(clock, max_per_interval=3, interval_ms=1_000)

    def refuse(code, count=1, *, after_ms=0):
        caplog.clear()
        clock.now += after_ms
        for _ in range(count):
            log.write(CONTEXT, "orders-0", KafkaError(code))
        return [each.getMessage() for each in caplog.records if each.levelno >= logging.INFO]

    refuse.log = log
    return refuse


def test_lines_are_bounded(told):
    """As many as a person reads; the number of the others comes with the next interval."""
    lines = told(ErrorCode.INVALID_REQUEST, 10)
    assert len(lines) == 3
    assert "client_id=shop" in lines[0]
    assert "subject=orders-0" in lines[0]
    assert told(ErrorCode.INVALID_REQUEST, after_ms=1_000)[0].endswith("count=7")


def test_what_has_moved_is_told_once(told, caplog):
    """An election is no news of each client; it does not use up the lines of what is."""
    assert len(told(ErrorCode.NOT_LEADER_OR_FOLLOWER, 5)) == 1
    assert len(caplog.records) == 5
    assert told(ErrorCode.NOT_COORDINATOR, 5) == []
    assert len(told(ErrorCode.INVALID_REQUEST, 3)) == 3
    lines = told(ErrorCode.FENCED_LEADER_EPOCH, after_ms=1_000)
    assert lines[0] == "requests refused since what they ask for has moved count=10"
    assert len(lines) == 2
    assert told(ErrorCode.INVALID_REQUEST, after_ms=1_000)[0].startswith("request refused")
