"""Reads RE2's syntax: https://github.com/google/re2/wiki/Syntax, as the Java library does that Kafka uses.

No back references and no looking around, which an automaton can not do. Groups are read and not remembered, greedy and lazy are
the same: all that is asked of a pattern is whether it matches a whole name.

Source of the errors' words: RE2/J 1.8.
"""

from __future__ import annotations

from typing import NamedTuple

from barnabas.coordinators.regular_expressions.characters import (
    ALL,
    CLASSES,
    NEWLINE,
    PERL_CLASSES,
    folded,
    property_set,
    range_set,
)

__all__ = [
    "Alternation",
    "Assertion",
    "Characters",
    "ExpressionError",
    "Node",
    "Repetition",
    "Sequence",
    "parse",
]

_REPEAT_MAX = 1_000
_DEPTH_MAX = 100
_CODE_POINT_MAX = 0x10FFFF

_INVALID_RANGE = "invalid character class range"
_INVALID_ESCAPE = "invalid escape sequence"
_INVALID_CAPTURE = "invalid named capture"
_INVALID_PERL = "invalid or unsupported Perl syntax"
_INVALID_REPEAT = "invalid nested repetition operator"
_INVALID_COUNT = "invalid repeat count"
_MISSING_BRACKET = "missing closing ]"
_MISSING_PARENTHESIS = "missing closing )"
_UNEXPECTED_PARENTHESIS = "unexpected )"
_MISSING_ARGUMENT = "missing argument to repetition operator"
_TRAILING_BACKSLASH = "trailing backslash at end of expression"
_DUPLICATE_CAPTURE = "duplicate capture group name"
_TOO_DEEP = "expression nests too deeply"

_SIMPLE_ESCAPES = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_FLAGS = "imsU"


class ExpressionError(ValueError):
    """A pattern that is none; the message says why."""


class Characters(NamedTuple):
    """One character of a set."""

    mask: int


class Assertion(NamedTuple):
    """Matches nothing, in some places only: `begin`, `end`, `boundary` or `inside` (of a word, or outside of all)."""

    kind: str


class Sequence(NamedTuple):
    """One after the other; nothing at all if it is empty."""

    nodes: tuple[Node, ...]


class Alternation(NamedTuple):
    """One of these."""

    nodes: tuple[Node, ...]


class Repetition(NamedTuple):
    """`node` so many times; no limit if `most` is None."""

    node: Node
    least: int
    most: int | None


Node = Characters | Assertion | Sequence | Alternation | Repetition


def parse(pattern: str) -> Node:
    """What a pattern says.

    Raises:
        ExpressionError: It says nothing that can be understood.
    """
    parser = _Parser(pattern)
    node = parser.alternation(0)
    if parser.position < len(pattern):
        raise ExpressionError(_UNEXPECTED_PARENTHESIS)
    if _repeat_product(node) > _REPEAT_MAX:
        raise ExpressionError(_INVALID_COUNT)
    return node


def _repeat_product(node: Node) -> int:
    """The product of nested counts, at its highest."""
    if isinstance(node, Repetition):
        count = node.least if node.most is None else node.most
        return max(count, 1) * _repeat_product(node.node) if count >= 2 else _repeat_product(node.node)
    if isinstance(node, Sequence | Alternation):
        return max((_repeat_product(each) for each in node.nodes), default=1)
    return 1


class _Parser:
    __slots__ = ("_flags", "_names", "_pattern", "position")

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._flags: frozenset[str] = frozenset()
        self._names: set[str] = set()
        self.position = 0

    # ----- looking ahead

    def _more(self) -> bool:
        return self.position < len(self._pattern)

    def _at(self, text: str) -> bool:
        return self._pattern.startswith(text, self.position)

    def _take(self) -> str:
        char = self._pattern[self.position]
        self.position += 1
        return char

    # ----- structure

    def alternation(self, depth: int) -> Node:
        """Up to a closing parenthesis or the end."""
        if depth > _DEPTH_MAX:
            raise ExpressionError(_TOO_DEEP)
        branches: list[Node] = [self._sequence(depth)]
        while self._at("|"):
            self.position += 1
            branches.append(self._sequence(depth))
        return branches[0] if len(branches) == 1 else Alternation(tuple(branches))

    def _sequence(self, depth: int) -> Node:
        nodes: list[Node] = []
        last_repeat: int | None = None
        while self._more() and not self._at("|") and not self._at(")"):
            start = self.position
            repeat = self._repeat()
            if repeat is not None:
                if not nodes:
                    raise ExpressionError(_MISSING_ARGUMENT)
                if last_repeat == start:
                    raise ExpressionError(_INVALID_REPEAT)
                least, most = repeat
                nodes[-1] = Repetition(nodes[-1], least, most)
                last_repeat = self.position
                continue
            node = self._atom(depth)
            if node is not None:
                nodes += node
        return nodes[0] if len(nodes) == 1 else Sequence(tuple(nodes))

    def _repeat(self) -> tuple[int, int | None] | None:
        """A repetition operator with the question mark that makes it lazy; None if there is none here."""
        if self._at("*"):
            found: tuple[int, int | None] = (0, None)
        elif self._at("+"):
            found = (1, None)
        elif self._at("?"):
            found = (0, 1)
        else:
            return self._counted_repeat()
        self.position += 1
        self._skip_lazy()
        return found

    def _counted_repeat(self) -> tuple[int, int | None] | None:
        """`{n}`, `{n,}` or `{n,m}`; a brace that begins nothing of that kind is an ordinary character."""
        if not self._at("{"):
            return None
        start = self.position
        self.position += 1
        least = self._number()
        most = least
        if least is not None and self._at(","):
            self.position += 1
            most = None if self._at("}") else self._number()
            if most is None and not self._at("}"):
                least = None
        if least is None or not self._at("}"):
            self.position = start
            return None
        self.position += 1
        if least > _REPEAT_MAX or (most is not None and (most > _REPEAT_MAX or least > most)):
            raise ExpressionError(_INVALID_COUNT)
        self._skip_lazy()
        return least, most

    def _skip_lazy(self) -> None:
        if self._at("?"):
            self.position += 1

    def _number(self) -> int | None:
        start = self.position
        while self._more() and self._pattern[self.position] in "0123456789":
            self.position += 1
        digits = self._pattern[start : self.position]
        if not digits or (len(digits) > 1 and digits[0] == "0"):
            return None
        return int(digits) if len(digits) <= 8 else _REPEAT_MAX + 1

    def _atom(self, depth: int) -> list[Node] | None:
        """One thing that can be repeated; several for quoted text, None for flags."""
        char = self._pattern[self.position]
        if char == "(":
            return self._group(depth)
        if char == "[":
            return [Characters(self._bracket())]
        if char == ".":
            self.position += 1
            return [Characters(ALL if "s" in self._flags else ALL & ~NEWLINE)]
        if char == "^":
            self.position += 1
            return [Assertion("begin")]
        if char == "$":
            self.position += 1
            return [Assertion("end")]
        if char == "\\":
            return self._escaped()
        self.position += 1
        return [Characters(self._fold(_single(ord(char))))]

    def _fold(self, mask: int) -> int:
        return folded(mask) if "i" in self._flags else mask

    # ----- groups

    def _group(self, depth: int) -> list[Node] | None:
        flags_before = self._flags
        if self._at("(?"):
            if self._at("(?P<") or self._at("(?<"):
                self._name()
            elif not self._flag_group():
                return None
        else:
            self.position += 1
        node = self.alternation(depth + 1)
        if not self._at(")"):
            raise ExpressionError(_MISSING_PARENTHESIS)
        self.position += 1
        self._flags = flags_before
        return [node]

    def _name(self) -> None:
        start = self._pattern.index("<", self.position) + 1
        end = self._pattern.find(">", start)
        if end < 0:
            raise ExpressionError(_INVALID_CAPTURE)
        name = self._pattern[start:end]
        if not name or not name.isascii() or not name.replace("_", "a").isalnum():
            raise ExpressionError(_INVALID_CAPTURE)
        if name in self._names:
            raise ExpressionError(_DUPLICATE_CAPTURE)
        self._names.add(name)
        self.position = end + 1

    def _flag_group(self) -> bool:
        """`(?flags)` or `(?flags:`; whether a group begins."""
        self.position += 2
        on, off = set(self._flags), set[str]()
        is_off = has_flag = False
        while self._more():
            char = self._take()
            if char in _FLAGS:
                has_flag = True
                if is_off:
                    off.add(char)
                else:
                    on.add(char)
                    off.discard(char)
            elif char == "-" and not is_off:
                # Flags to be turned off follow; one at least.
                is_off, has_flag = True, False
            elif char in ":)" and (has_flag or not is_off):
                self._flags_in(frozenset(on - off))
                return char == ":"
            else:
                break
        raise ExpressionError(_INVALID_PERL)

    def _flags_in(self, flags: frozenset[str]) -> None:
        self._flags = flags

    # ----- escapes

    def _escaped(self) -> list[Node] | None:
        if self.position + 1 < len(self._pattern):
            char = self._pattern[self.position + 1]
            if char in "Az":
                self.position += 2
                return [Assertion("begin" if char == "A" else "end")]
            if char in "bB":
                self.position += 2
                return [Assertion("boundary" if char == "b" else "inside")]
            if char == "Q":
                return self._quoted()
            mask = self._class_escape()
            if mask is not None:
                return [Characters(mask)]
        return [Characters(self._fold(_single(self._escape())))]

    def _quoted(self) -> list[Node] | None:
        start = self.position + 2
        end = self._pattern.find("\\E", start)
        text = self._pattern[start:] if end < 0 else self._pattern[start:end]
        self.position = len(self._pattern) if end < 0 else end + 2
        return [Characters(self._fold(_single(ord(char)))) for char in text]

    def _class_escape(self) -> int | None:
        r"""The set that `\d`, `\pL` and their like stand for; None if there is no such escape here."""
        if not self._at("\\") or self.position + 1 >= len(self._pattern):
            return None
        char = self._pattern[self.position + 1]
        perl = PERL_CLASSES.get(char.lower())
        if perl is not None:
            self.position += 2
            return perl if char.islower() else ALL & ~perl
        if char not in "pP":
            return None
        self.position += 2
        is_negated = char == "P"
        if not self._more():
            raise ExpressionError(_INVALID_RANGE)
        name = self._take()
        if name == "{":
            end = self._pattern.find("}", self.position)
            if end < 0:
                raise ExpressionError(_INVALID_RANGE)
            name = self._pattern[self.position : end]
            self.position = end + 1
        if name.startswith("^"):
            is_negated = not is_negated
            name = name[1:]
        mask = property_set(name)
        if mask is None:
            raise ExpressionError(_INVALID_RANGE)
        mask = self._fold(mask)
        return ALL & ~mask if is_negated else mask

    def _escape(self) -> int:
        """A backslash and what follows it, as one code point."""
        self.position += 1
        if not self._more():
            raise ExpressionError(_TRAILING_BACKSLASH)
        char = self._take()
        if char in _SIMPLE_ESCAPES:
            return _SIMPLE_ESCAPES[char]
        if char in "01234567":
            return self._octal(char)
        if char == "x":
            return self._hexadecimal()
        if not char.isascii() or not char.isalnum():
            return ord(char)
        raise ExpressionError(_INVALID_ESCAPE)

    def _octal(self, first: str) -> int:
        if first != "0" and not (self._more() and self._pattern[self.position] in "01234567"):
            # A single digit would refer back to a group.
            raise ExpressionError(_INVALID_ESCAPE)
        digits = first
        while len(digits) < 3 and self._more() and self._pattern[self.position] in "01234567":
            digits += self._take()
        return int(digits, 8)

    def _hexadecimal(self) -> int:
        if self._at("{"):
            end = self._pattern.find("}", self.position)
            digits = self._pattern[self.position + 1 : end] if end >= 0 else ""
            self.position = end + 1
        else:
            digits = self._pattern[self.position : self.position + 2]
            self.position += 2
            if len(digits) < 2:
                digits = ""
        if not digits or any(char not in "0123456789abcdefABCDEF" for char in digits):
            raise ExpressionError(_INVALID_ESCAPE)
        value = int(digits, 16)
        if value > _CODE_POINT_MAX:
            raise ExpressionError(_INVALID_ESCAPE)
        return value

    # ----- classes

    def _bracket(self) -> int:
        """`[...]`."""
        self.position += 1
        is_negated = self._at("^")
        if is_negated:
            self.position += 1
        mask = 0
        is_first = True
        while not self._more() or not self._at("]") or is_first:
            if not self._more():
                raise ExpressionError(_MISSING_BRACKET)
            is_first = False
            if self._at("[:"):
                named = self._named_class()
                if named is not None:
                    mask |= named
                    continue
            escaped = self._class_escape()
            if escaped is not None:
                mask |= escaped
                continue
            mask |= self._range()
        self.position += 1
        return ALL & ~mask if is_negated else mask

    def _named_class(self) -> int | None:
        end = self._pattern.find(":]", self.position + 2)
        if end < 0:
            return None
        name = self._pattern[self.position + 2 : end]
        is_negated = name.startswith("^")
        mask = CLASSES.get(name.removeprefix("^"))
        if mask is None:
            raise ExpressionError(_INVALID_RANGE)
        self.position = end + 2
        mask = self._fold(mask)
        return ALL & ~mask if is_negated else mask

    def _range(self) -> int:
        first = self._class_character()
        if self._at("-") and not self._at("-]"):
            self.position += 1
            last = self._class_character()
            if last < first:
                raise ExpressionError(_INVALID_RANGE)
            return self._fold(range_set(first, last))
        return self._fold(_single(first))

    def _class_character(self) -> int:
        if not self._more():
            raise ExpressionError(_MISSING_BRACKET)
        if self._at("\\"):
            return self._escape()
        return ord(self._take())


def _single(code_point: int) -> int:
    return range_set(code_point, code_point)
