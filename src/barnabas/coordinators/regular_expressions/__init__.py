"""Regular expressions over names of topics and transactional ids, with the syntax of RE2 and time in proportion to the text, whatever the pattern.

The `re` module knows another syntax, goes back and forth for ages on the wrong pattern, and holds up the whole process for as
long. Patterns come from clients, so they get an automaton of their own: `syntax.py` reads a pattern, `automaton.py` runs it.

A name is matched as a whole. Names are ASCII (letters, digits, dot, underscore, dash), so a set of characters is a number of 128
bits; whatever else a pattern names is read and checked, and never met.
"""

from __future__ import annotations

from barnabas.coordinators.regular_expressions.automaton import Automaton, WorkLimit
from barnabas.coordinators.regular_expressions.syntax import ExpressionError, parse

__all__ = ["Expression", "ExpressionError", "WorkLimit"]


class Expression:
    """One pattern.

    Raises:
        ExpressionError: It is none; the message is RE2's.
    """

    __slots__ = ("_automaton", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self._automaton = Automaton(parse(pattern))

    def matches(self, name: str, limit: WorkLimit | None = None) -> bool:
        """Whether the pattern matches the whole name.

        Raises:
            ExpressionError: the limit is reached.
        """
        return self._automaton.matches(name, limit)
