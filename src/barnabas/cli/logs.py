"""Log lines: `key=value` pairs and the event, or JSON, one line each, on standard error.

    time=2026-05-01T10:00:00.123Z level=info room=broker broker stops signal=SIGTERM

Events say their figures as pairs too; whatever a caller passes as `extra` becomes further pairs. Text from outside can
never begin a line of its own: line breaks and control characters are escaped. Nor can a client write as many lines as it likes.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["JsonFormatter", "LineLimit", "TextFormatter", "configure_logging", "pair"]

# What every record has; anything else came as `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}

_ROOMS_OF_CLIENTS = ("barnabas.network.", "barnabas.handlers.", "barnabas.coordinators.group.")
_EVENTS_MAX = 1000


class TextFormatter(logging.Formatter):
    """`key=value` pairs; a traceback follows on indented lines."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback if there is one."""
        fields = _fields(record)
        event = _escape(fields.pop("event"))
        line = " ".join((*(pair(key, value) for key, value in fields.items()), event))
        if record.exc_info:
            traceback = self.formatException(record.exc_info)
            line += "".join(f"\n    {_escape(part)}" for part in traceback.splitlines())
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object; a traceback is its field `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        fields = _fields(record)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)


class LineLimit(logging.Filter):
    """Leaves out lines of which clients could cause any number: a client in a loop must not fill the disk.

    Of each event of the rooms that clients speak to, `max_per_interval` lines are written in an interval. The first one of a
    later interval says how many were left out (`left_out=…`). Other rooms, which tell of files and partitions, are not limited.

    Args:
        max_per_interval: Lines of one event in one interval.
        interval_s: Its length, by the times of the lines.
    """

    def __init__(self, *, max_per_interval: int = 50, interval_s: float = 10.0) -> None:
        super().__init__()
        self._max_per_interval = max_per_interval
        self._interval_s = interval_s
        # (room, level, event without its figures) -> begin of the interval, lines written, lines left out
        self._seen: dict[tuple[str, int, str], tuple[float, int, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        if not record.name.startswith(_ROOMS_OF_CLIENTS):
            return True
        key = (record.name, record.levelno, str(record.msg))
        since, written, left_out = self._seen.get(key, (record.created, 0, 0))
        if not 0 <= record.created - since < self._interval_s:
            if left_out:
                record.left_out = left_out
            since, written, left_out = record.created, 0, 0
        is_written = written < self._max_per_interval
        if len(self._seen) >= _EVENTS_MAX:
            self._seen.clear()
        self._seen[key] = since, written + is_written, left_out + (not is_written)
        return is_written


def configure_logging(log_format: str, level: str, stream: TextIO | None = None) -> None:
    """Sends all log lines to `stream` (standard error), as `text` or `json`, from `level` upwards."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.addFilter(LineLimit())
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


def pair(key: str, value: Any) -> str:
    """`key=value`, quoted where it must be."""
    text = _escape(str(value))
    if not text or any(character in text for character in ' ="'):
        text = '"' + text.replace('"', '\\"') + '"'
    return f"{key}={text}"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    fields: dict[str, Any] = {
        "time": f"{seconds}.{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
        "room": record.name.removeprefix("barnabas."),
        "event": record.getMessage(),
    }
    for key, value in vars(record).items():
        if key not in _STANDARD:
            fields.setdefault(key, value)
    return fields


def _escape(text: str) -> str:
    if text.isprintable():
        return text.replace("\\", "\\\\") if "\\" in text else text
    return "".join(
        "\\\\" if character == "\\" else character if character.isprintable() else repr(character)[1:-1]
        for character in text
    )
