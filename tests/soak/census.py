"""A broker that can be asked how many things it holds: `python -m tests.soak.census FILE` and what `barnabas` is told; on SIGUSR2 a census to FILE.

The census needs no list of what may grow: it counts the instances of every class, and the elements of every list, dict, set and
deque that an attribute of one of the broker's own objects holds.
"""

from __future__ import annotations

import collections
import gc
import json
import signal
import sys
from pathlib import Path

from barnabas.cli import main

__all__ = ["census"]

CONTAINERS = (list, dict, set, collections.deque)


def census() -> dict[str, int]:
    """`Class` -> instances, `Class.attribute` -> elements of all instances together."""
    counts: collections.Counter[str] = collections.Counter()
    for thing in gc.get_objects():
        kind = type(thing)
        module = str(kind.__module__)
        counts[f"{module}.{kind.__qualname__}"] += 1
        if module.startswith("barnabas."):
            for name, value in _attributes(thing):
                if isinstance(value, CONTAINERS):
                    counts[f"{module}.{kind.__qualname__}.{name}"] += len(value)
    return dict(counts)


def _attributes(thing: object):
    yield from getattr(thing, "__dict__", {}).items()
    for kind in type(thing).__mro__:
        for name in getattr(kind, "__slots__", ()):
            mangled = f"_{kind.__name__.lstrip('_')}{name}" if name.startswith("__") else name
            yield name, getattr(thing, mangled, None)


def _write(path: Path) -> None:
    gc.collect()
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(census()))
    unfinished.replace(path)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    signal.signal(signal.SIGUSR2, lambda *_: _write(file))
    sys.exit(main(sys.argv[2:]))
