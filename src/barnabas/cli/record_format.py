"""How `barnabas consume` writes a record: its value, JSON, or a template."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.cli.failure import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FIELDS", "ConsumedRecord", "record_format"]


class ConsumedRecord(NamedTuple):
    """A record as it was read; `timestamp_ms` is -1 when it has none."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


FIELDS = ("topic", "partition", "offset", "timestamp", "time", "key", "value", "headers")
"""What a template may name in braces."""

_FIELD = re.compile(r"\{(\w*)\}|\\([ntr0\\{])")

_ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\", "{": b"{"}


def record_format(form: str, null: str = "null") -> Callable[[ConsumedRecord], bytes]:
    """What makes a line of a record: `value`, `json`, `all`, or a template such as `{key}: {value}`.

    Keys, values and headers are written as the bytes that they are, except in JSON; `null` stands for those that are null.

    Raises:
        CommandError: The template names a field that there is not, or no field at all.
    """
    if form == "json":
        return _json_line
    if form == "value":
        form = "{value}"
    elif form == "all":
        form = "{time}  {topic}-{partition}  offset {offset}  {headers}\\n  {key}: {value}"
    parts: list[bytes | str] = []
    end = 0
    for match in _FIELD.finditer(form):
        parts.append(form[end : match.start()].encode())
        end = match.end()
        if match[2] is not None:
            parts.append(_ESCAPES[match[2]])
        elif match[1] in FIELDS:
            parts.append(match[1])
        else:
            raise CommandError(f"--format: there is no field {{{match[1]}}}; there are {', '.join(FIELDS)}.")
    parts.append(form[end:].encode())
    if not any(isinstance(part, str) for part in parts):
        raise CommandError(
            f"--format {form}: write value, json, all, or a template with fields in braces, such as '{{key}}: {{value}}'."
        )
    pieces = [part for part in parts if part]
    absent = null.encode()

    def line(record: ConsumedRecord) -> bytes:
        return (
            b"".join(piece if isinstance(piece, bytes) else _field(record, piece, absent) for piece in pieces)
            + b"\n"
        )

    return line


def _field(record: ConsumedRecord, name: str, null: bytes) -> bytes:
    if name == "time":
        return _time(record.timestamp_ms).encode()
    if name == "timestamp":
        return str(record.timestamp_ms).encode()
    if name == "headers":
        return b",".join(
            header.encode() + b"=" + (null if value is None else value) for header, value in record.headers
        )
    value = getattr(record, name)
    if value is None:
        return null
    return value if isinstance(value, bytes) else str(value).encode()


def _time(timestamp_ms: int) -> str:
    if timestamp_ms < 0:
        return "-"
    import time

    seconds, milliseconds = divmod(timestamp_ms, 1000)
    try:
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03d}Z"
    except (OverflowError, OSError, ValueError):
        return str(timestamp_ms)


def _json_line(record: ConsumedRecord) -> bytes:
    import json

    fields: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp_ms,
        "key": _text(record.key),
        "value": _text(record.value),
        "headers": [[name, _text(value)] for name, value in record.headers],
    }
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def _text(value: bytes | None) -> str | dict[str, str] | None:
    """The text of UTF-8, `{"base64": ...}` of any other bytes."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        import base64

        return {"base64": base64.b64encode(value).decode()}
