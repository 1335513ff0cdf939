"""Runs a pattern: all ways through it at once, and each step that was taken before is looked up.

The instructions are Thompson's. A state is a set of instructions that wait for a character, with what came before it, since
assertions look at both sides of a place; what a state becomes with a character is computed once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barnabas.coordinators.regular_expressions.characters import WORD
from barnabas.coordinators.regular_expressions.syntax import (
    Alternation,
    Assertion,
    Characters,
    ExpressionError,
    Repetition,
    Sequence,
)

if TYPE_CHECKING:
    from barnabas.coordinators.regular_expressions.syntax import Node

__all__ = ["Automaton", "WorkLimit"]

_INSTRUCTIONS_MAX = 10_000
_CACHED_MAX = 200_000
_BEGIN, _OTHER, _WORD = 0, 1, 2
_MATCH = -1
_CHARACTER = "character"


class WorkLimit:
    """How much may still be computed, over all patterns that share it."""

    __slots__ = ("left",)

    def __init__(self, instructions: int) -> None:
        self.left = instructions

    def spend(self, instructions: int) -> None:
        """Raises ExpressionError when nothing is left."""
        self.left -= instructions
        if self.left < 0:
            raise ExpressionError("it takes too long to match")


class _Instruction(NamedTuple):
    """Consumes a character of `mask` (`kind` "character"), checks an assertion, or does nothing (""); then goes to one of `next`."""

    mask: int
    kind: str
    next: tuple[int, ...]


class Automaton:
    """A pattern, ready to match.

    Raises:
        ExpressionError: It is too large.
    """

    __slots__ = ("_accepted", "_cached", "_instructions", "_start", "_steps")

    def __init__(self, node: Node) -> None:
        self._instructions: list[_Instruction] = []
        self._start = self._compile(node, _MATCH)
        self._steps: dict[tuple[frozenset[int], int, str], tuple[frozenset[int], int]] = {}
        self._accepted: dict[tuple[frozenset[int], int], bool] = {}
        self._cached = 0

    # ----- compiling

    def _add(self, mask: int, kind: str, targets: tuple[int, ...]) -> int:
        if len(self._instructions) >= _INSTRUCTIONS_MAX:
            raise ExpressionError("expression is too large")
        self._instructions.append(_Instruction(mask, kind, targets))
        return len(self._instructions) - 1

    def _compile(self, node: Node, then: int) -> int:
        """Where the node begins, if `then` is what follows it. Written from the end to the beginning."""
        if isinstance(node, Characters):
            return self._add(node.mask, _CHARACTER, (then,))
        if isinstance(node, Assertion):
            return self._add(0, node.kind, (then,))
        if isinstance(node, Sequence):
            for each in reversed(node.nodes):
                then = self._compile(each, then)
            return then
        if isinstance(node, Alternation):
            return self._add(0, "", tuple([self._compile(each, then) for each in node.nodes]))
        return self._compile_repetition(node, then)

    def _compile_repetition(self, node: Repetition, then: int) -> int:
        if node.most is None:
            loop = self._add(0, "", ())
            body = self._compile(node.node, loop)
            self._instructions[loop] = _Instruction(0, "", (body, then))
            then = loop
        else:
            for _ in range(node.most - node.least):
                then = self._add(0, "", (self._compile(node.node, then), then))
        for _ in range(node.least):
            then = self._compile(node.node, then)
        return then

    # ----- matching

    def matches(self, text: str, limit: WorkLimit | None = None) -> bool:
        """Whether the whole text matches."""
        if not text.isascii():
            return False
        steps = self._steps
        waiting, before = frozenset((self._start,)), _BEGIN
        for char in text:
            key = (waiting, before, char)
            step = steps.get(key)
            if step is None:
                step = self._step(waiting, before, char, limit)
                self._make_room(len(step[0]) + 1)
                steps[key] = step
            waiting, before = step
            if not waiting:
                return False
        accepted = self._accepted.get((waiting, before))
        if accepted is None:
            accepted = _MATCH in self._closure(waiting, before, None, limit)
            self._make_room(1)
            self._accepted[waiting, before] = accepted
        return accepted

    def _make_room(self, size: int) -> None:
        """Forgets all steps when they have become too many; they can be computed again."""
        self._cached += size
        if self._cached > _CACHED_MAX:
            self._cached = 0
            self._steps.clear()
            self._accepted.clear()

    def _step(
        self, waiting: frozenset[int], before: int, char: str, limit: WorkLimit | None
    ) -> tuple[frozenset[int], int]:
        code = ord(char)
        instructions = self._instructions
        after: set[int] = set()
        for index in self._closure(waiting, before, char, limit):
            if index != _MATCH and instructions[index].mask >> code & 1:
                after.update(instructions[index].next)
        return frozenset(after), _WORD if WORD >> code & 1 else _OTHER

    def _closure(
        self, waiting: frozenset[int], before: int, char: str | None, limit: WorkLimit | None
    ) -> set[int]:
        """All instructions that are reached without a character, between what came before and `char` (None at the end)."""
        is_boundary = (before == _WORD) != (char is not None and bool(WORD >> ord(char) & 1))
        holds = {
            _CHARACTER: False,
            "": True,
            "begin": before == _BEGIN,
            "end": char is None,
            "boundary": is_boundary,
            "inside": not is_boundary,
        }
        reached = set(waiting)
        pending = list(waiting)
        while pending:
            index = pending.pop()
            if index == _MATCH:
                continue
            instruction = self._instructions[index]
            if not holds[instruction.kind]:
                continue
            for target in instruction.next:
                if target not in reached:
                    reached.add(target)
                    pending.append(target)
        if limit is not None:
            limit.spend(len(reached) + 1)
        return reached
