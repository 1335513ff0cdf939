"""Python source under construction, and the `struct` formats that it needs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FORMATS", "ClassNames", "Formats", "Source"]

ClassNames: TypeAlias = dict[str, str]
"""Under which name a module knows the class of each struct of a message."""

FORMATS = {
    "bool": "?",
    "int8": "b",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "uint32": "I",
    "int64": "q",
    "float64": "d",
    "uuid": "16s",
}
"""The `struct` format of each type that has a fixed size."""


class Source:
    """Lines of Python at a current depth of indentation."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._depth = 0

    def add(self, line: str = "") -> None:
        """A line, or an empty one."""
        self.lines.append("    " * self._depth + line if line else "")

    @contextmanager
    def block(self, line: str) -> Iterator[None]:
        """Everything inside stands one step deeper, below `line`."""
        self.add(line)
        self._depth += 1
        yield
        self._depth -= 1


class Formats:
    """The precompiled structs of one module, each named after its format."""

    def __init__(self) -> None:
        self._packers: dict[str, str] = {}
        self._unpackers: dict[str, str] = {}

    @staticmethod
    def _name(prefix: str, letters: list[str]) -> str:
        return prefix + "".join(letters).replace("?", "t").replace("16s", "u")

    @staticmethod
    def _pattern(letters: list[str]) -> str:
        return ">" + "".join(letters)

    def pack(self, letters: list[str]) -> str:
        """The name under which the module has the `pack` of this format."""
        name = self._name("_pack_", letters)
        self._packers[name] = self._pattern(letters)
        return name

    def unpack(self, letters: list[str]) -> str:
        """The name under which the module has the `unpack_from` of this format."""
        name = self._name("_unpack_", letters)
        self._unpackers[name] = self._pattern(letters)
        return name

    def definitions(self) -> list[str]:
        """The assignments that make them."""
        packers = [f'{name} = Struct("{pattern}").pack' for name, pattern in sorted(self._packers.items())]
        unpackers = [
            f'{name} = Struct("{pattern}").unpack_from' for name, pattern in sorted(self._unpackers.items())
        ]
        return packers + unpackers
