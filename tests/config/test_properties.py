from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barnabas.config.properties import parse_properties
from barnabas.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1\nb:2\nc 3\n", {"a": "1", "b": "2", "c": "3"}),
        ("# note\n! note\n\n   a = 1 \n", {"a": "1 "}),
        ("a=one,\\\n    two\nb=3", {"a": "one,two", "b": "3"}),
        ("a\\ b\\:c=d\\=e", {"a b:c": "d=e"}),
        ("path=C:\\\\data\\tx", {"path": "C:\\data\tx"}),
        ("name=\\u00fc\\uD83D\\uDE00", {"name": "ü😀"}),
        ("a=1\na=2", {"a": "2"}),
        ("alone", {"alone": ""}),
        ("a=b\\", {"a": "b"}),
        ("#ends in a backslash \\\na=1", {"a": "1"}),
        ("a=1\r\nb=2\rc=3", {"a": "1", "b": "2", "c": "3"}),
        ("a = = b", {"a": "= b"}),
    ],
)
def test_reads_what_java_reads(text, expected):
    """Separators, comments, continued lines and escapes mean what they mean to Java."""
    assert parse_properties(text) == expected


@pytest.mark.parametrize("text", ["x=1\na=\\u12", "x=1\na=\\uzzzz"])
def test_a_broken_escape_names_its_line(text):
    """A malformed escape is refused with the number of its line."""
    with pytest.raises(ConfigError, match="Line 2 "):
        parse_properties(text)


@pytest.mark.oracle
@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("ab=:# !\\\n\r\t\fu0041D83nt"), max_size=40))
def test_agrees_with_java_util_properties(kafka_config, text):
    """Any text means the same to Java's Properties, or is refused by both."""
    text += "\nend=1"  # Java makes an empty key of a lone backslash at the very end
    theirs = kafka_config.properties(text)
    try:
        ours = parse_properties(text)
    except ConfigError:
        ours = None
    if theirs is not None and any(
        "\ufffd" in word or "?" in word for pair in theirs.items() for word in pair
    ):
        return  # half a surrogate pair, which neither side can print
    assert ours == theirs
