from __future__ import annotations

import io
import json
import logging
import re

import pytest

from barnabas.cli.logs import JsonFormatter, LineLimit, TextFormatter, configure_logging, pair


@pytest.fixture(autouse=True)
def root_logger():
    """The root logger as it was, afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def record(message="it happened n=%d", args=(3,), exc_info=None, **extra):
    found = logging.LogRecord("barnabas.log.recovery", logging.WARNING, "x.py", 1, message, args, exc_info)
    vars(found).update(extra)
    return found


def test_text_lines_are_pairs_and_the_event():
    """Time, level and room come first, what the caller adds follows, then the event."""
    line = TextFormatter().format(record(topic="orders", path="/a b"))
    assert re.fullmatch(
        r'time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=warning room=log\.recovery topic=orders path="/a b" '
        r"it happened n=3",
        line,
    )


def test_json_lines_are_objects():
    """Every field has its name, and whatever the caller adds is there."""
    fields = json.loads(JsonFormatter().format(record(topic="orders", weird=object())))
    assert fields["level"] == "warning"
    assert fields["room"] == "log.recovery"
    assert fields["event"] == "it happened n=3"
    assert fields["topic"] == "orders"


def test_nobody_can_write_a_line_of_his_own():
    """Line breaks and control characters from outside are escaped."""
    line = TextFormatter().format(record("client %s", ("x\n\x1b[31mlevel=error\r",), client="a\nb"))
    assert "\n" not in line
    assert "\x1b" not in line
    assert r"client=a\nb" in line


def test_tracebacks_follow():
    """A traceback is indented under its line, or a field in JSON."""
    try:
        raise ValueError("broken")
    except ValueError as error:
        info = (type(error), error, error.__traceback__)
    text = TextFormatter().format(record(exc_info=info))
    assert text.splitlines()[-1] == "    ValueError: broken"
    assert "ValueError: broken" in json.loads(JsonFormatter().format(record(exc_info=info)))["exception"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("plain", "k=plain"),
        ("", 'k=""'),
        ("a b", 'k="a b"'),
        ('a"b', r'k="a\"b"'),
        ("a=b", 'k="a=b"'),
        (5, "k=5"),
        ("ü", "k=ü"),
    ],
)
def test_pairs_are_quoted_where_they_must(value, expected):
    """A value reads back as one value."""
    assert pair("k", value) == expected


def test_levels_are_kept_apart():
    """Lines below the level are not written."""
    stream = io.StringIO()
    configure_logging("json", "warning", stream)
    logging.getLogger("barnabas.x").info("no")
    logging.getLogger("barnabas.x").warning("yes")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["yes"]


def test_clients_cannot_write_as_many_lines_as_they_like():
    """Of an event that clients cause so many lines are written in an interval, and a later one tells of the others."""
    limit = LineLimit(max_per_interval=3, interval_s=10)

    def is_written(at_s, name="barnabas.network.connection", event="closed %s"):
        line = logging.LogRecord(name, logging.WARNING, "x.py", 1, event, (at_s,), None)
        line.created = at_s
        return limit.filter(line) and getattr(line, "left_out", 0) + 1

    assert [is_written(1000 + second) for second in range(6)] == [1, 1, 1, False, False, False]
    assert is_written(1006, event="refused %s") == 1
    assert all(is_written(1006, name="barnabas.log.recovery") for _ in range(100))
    assert is_written(1010) == 1 + 3
    assert is_written(1011) == 1
    assert is_written(1009) == 1, "a clock that is set back does not silence it"
    assert is_written(500) == 1
