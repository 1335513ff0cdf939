"""A map that is never changed, but followed by another one that differs in little, and shares the rest with it.

A small map is copied. Of a large one the changes are kept beside it, and are put into a copy only when there are many of them: with 100,000
topics a change takes microseconds, where two copies would take milliseconds on every broker for every change of a partition.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["GONE", "SharedMap", "with_changes"]

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")

GONE: Final[Any] = object()
"""Stands for a value in changes: there is none any more."""

_COPIED_MAX = 1000


class SharedMap(Mapping[K, V]):
    """See the module; made by `with_changes`. What was changed keeps its place in the order, what is new comes last."""

    __slots__ = ("_base", "_changes", "_count")

    def __init__(self, base: dict[K, V], changes: dict[K, V]) -> None:
        self._base = base
        self._changes = changes
        count = len(base)
        for key, value in changes.items():
            count += (value is not GONE) - (key in base)
        self._count = count

    def __getitem__(self, key: K) -> V:
        value = self._changes.get(key)
        if value is None:
            return self._base[key]
        if value is GONE:
            raise KeyError(key)
        return value

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, /, default: V | D) -> V | D: ...
    def get(self, key: K, /, default: Any = None) -> Any:
        """The value, or `default`."""
        value = self._changes.get(key)
        if value is None:
            return self._base.get(key, default)
        return default if value is GONE else value

    def __contains__(self, key: object) -> bool:
        value = self._changes.get(key)  # type: ignore[arg-type] # any object may be asked for
        return key in self._base if value is None else value is not GONE

    def __iter__(self) -> Iterator[K]:
        base, changes = self._base, self._changes
        for key in base:
            if changes.get(key) is not GONE:
                yield key
        for key, value in changes.items():
            if value is not GONE and key not in base:
                yield key

    def __len__(self) -> int:
        return self._count

    def with_changes(self, changes: dict[K, V]) -> Mapping[K, V]:
        """See the function of that name."""
        return _shared(self._base, self._changes | changes)

    def __repr__(self) -> str:
        return f"<SharedMap {self._count} changes={len(self._changes)}>"


def with_changes(before: Mapping[K, V], changes: dict[K, V]) -> Mapping[K, V]:
    """The map with these changes, as dict.update would make them; the values are never None, and `GONE` takes a key away."""
    if isinstance(before, SharedMap):
        return before.with_changes(changes)
    if isinstance(before, dict) and len(before) > _COPIED_MAX:
        return _shared(before, changes)
    return _merged(before, changes)


def _shared(base: dict[K, V], changes: dict[K, V]) -> Mapping[K, V]:
    # So many that the next copy costs as much as all the copies of changes until then.
    return _merged(base, changes) if len(changes) > isqrt(2 * len(base)) else SharedMap(base, changes)


def _merged(base: Mapping[K, V], changes: dict[K, V]) -> dict[K, V]:
    merged = dict(base)
    merged.update(changes)
    for key, value in changes.items():
        if value is GONE:
            del merged[key]
    return merged
