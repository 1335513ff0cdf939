"""Log lines: `key=value` pairs and the event, or JSON, one line each, on standard error.

    time=2026-05-01T10:00:00.123Z level=info room=broker broker stops signal=SIGTERM

Events say their figures as pairs too; whatever a caller passes as `extra` becomes further pairs. Text from outside can
never begin a line of its own: line breaks and control characters are escaped.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["JsonFormatter", "TextFormatter", "configure_logging", "pair"]

# What every record has; anything else came as `extra`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


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


def configure_logging(log_format: str, level: str, stream: TextIO | None = None) -> None:
    """Sends all log lines to `stream` (standard error), as `text` or `json`, from `level` upwards."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
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
