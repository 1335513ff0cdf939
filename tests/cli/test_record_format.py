from __future__ import annotations

import json

import pytest

from barnabas.cli.failure import CommandError
from barnabas.cli.record_format import ConsumedRecord, record_format

RECORD = ConsumedRecord("t", 2, 5, 1_700_000_000_123, b"k", b"v", (("a", b"1"), ("b", None)))
BARE = ConsumedRecord("t", 0, 0, -1, None, None)


@pytest.mark.parametrize(
    ("form", "record", "expected"),
    [
        ("value", RECORD, b"v\n"),
        ("value", BARE, b"null\n"),
        ("{key}: {value}", RECORD, b"k: v\n"),
        (r"{key}\t{value}\0", RECORD, b"k\tv\0\n"),
        (r"\{key} {key}", RECORD, b"{key} k\n"),
        ("{headers}", RECORD, b"a=1,b=null\n"),
        ("{time} {timestamp}", RECORD, b"2023-11-14T22:13:20.123Z 1700000000123\n"),
        ("{time} {timestamp}", BARE, b"- -1\n"),
        ("{topic}-{partition}@{offset}", RECORD, b"t-2@5\n"),
        ("{value}{value}", RECORD._replace(value=b"\xff\n"), b"\xff\n\xff\n\n"),
    ],
)
def test_templates(form, record, expected):
    """Fields in braces are replaced by the record's bytes, escapes by what they mean."""
    assert record_format(form)(record) == expected


def test_null_is_spelt_as_wished():
    """The text for null is the user's choice."""
    assert record_format("{key}={value}", null="")(BARE) == b"=\n"


def test_json_is_one_line_and_loses_nothing():
    """Text stays text, other bytes are base64, null is null, line breaks are escaped."""
    line = record_format("json")(RECORD._replace(value=b"a\nb", key=b"\xff"))
    assert line.count(b"\n") == 1
    assert json.loads(line) == {
        "topic": "t",
        "partition": 2,
        "offset": 5,
        "timestamp": 1_700_000_000_123,
        "key": {"base64": "/w=="},
        "value": "a\nb",
        "headers": [["a", "1"], ["b", None]],
    }


@pytest.mark.parametrize("form", ["", "text", "{}", "{Key}", "{key} {who}"])
def test_a_template_names_fields_that_there_are(form):
    """A slip in a template is refused with the fields there are, or how to write one."""
    with pytest.raises(CommandError):
        record_format(form)


@pytest.mark.parametrize("timestamp_ms", [0, 253_402_300_800_000, 2**62, 2**63 - 1])
def test_absurd_timestamps_do_not_stop_the_reader(timestamp_ms):
    """A timestamp beyond the calendar is printed somehow."""
    assert len(record_format("{time}")(RECORD._replace(timestamp_ms=timestamp_ms))) > 10
