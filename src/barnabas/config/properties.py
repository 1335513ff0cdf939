r"""Java properties files: the format of Kafka's `server.properties`.

A line is `key=value`, `key:value` or `key value`; `#` and `!` begin comments; a backslash at the end continues a line and
drops the next one's indent; `\t \n \r \f \uXXXX` are escapes, any other escaped character is itself.
Source: `java.util.Properties.load`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barnabas.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["parse_properties"]

_BLANKS = " \t\f"
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def parse_properties(text: str) -> dict[str, str]:
    """The keys and values of a properties file; of a repeated key the last value counts, as in Java.

    Raises:
        ConfigError: A unicode escape is malformed; the message names the line.
    """
    properties: dict[str, str] = {}
    for number, line in _logical_lines(text):
        key, value = _split(line)
        try:
            properties[_unescape(key)] = _unescape(value)
        except ValueError:
            raise ConfigError(
                f"Line {number} has a malformed \\uXXXX escape: write four hexadecimal digits after \\u."
            ) from None
    return properties


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments, blank ones and indents, continued ones joined, each with its first line's number."""
    lines = enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1)
    for number, natural in lines:
        line = natural.lstrip(_BLANKS)
        if not line or line[0] in "#!":
            continue
        while _continues(line):
            line = line[:-1]
            for _, physical in lines:
                following = physical.lstrip(_BLANKS)
                # Behind nothing but backslashes the logical line has not begun: comments are still comments.
                if line or (following and following[0] not in "#!"):
                    line += following
                    break
            else:
                break
        if line:
            yield number, line


def _continues(line: str) -> bool:
    """Whether the line ends in an odd number of backslashes: the last one is not itself escaped."""
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _split(line: str) -> tuple[str, str]:
    """Key and value, both still escaped: the key ends at the first unescaped `=`, `:` or blank."""
    position = 0
    while position < len(line) and line[position] not in "=: \t\f":
        position += 2 if line[position] == "\\" else 1
    key, rest = line[:position], line[position:].lstrip(_BLANKS)
    if rest[:1] in {"=", ":"}:
        rest = rest[1:].lstrip(_BLANKS)
    return key, rest


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text
    out: list[str] = []
    characters = iter(text)
    for character in characters:
        if character != "\\":
            out.append(character)
            continue
        escaped = next(characters, "")
        if escaped == "u":
            digits = "".join(next(characters, "") for _ in range(4))
            if len(digits) != 4 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
                raise ValueError(digits)
            out.append(chr(int(digits, 16)))
        else:
            out.append(_ESCAPES.get(escaped, escaped))
    joined = "".join(out)
    # Java writes characters beyond U+FFFF as two escapes, a surrogate pair.
    return joined.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
