"""CRC-32C (Castagnoli), the checksum of a record batch.

The only module that imports the `crc32c` package, which uses the CPU's own instruction. Without it a table
in pure Python gives the same numbers, some thousand times slower.

Source: RFC 3720, appendix B.4 (polynomial 0x1EDC6F41, reflected 0x82F63B78).
"""

from __future__ import annotations

import sys
from typing import Any, Final, Protocol

__all__ = ["crc32c", "crc32c_by_table"]

_PACKAGE = "crc32c"
_POLYNOMIAL = 0x82F63B78
_table: tuple[int, ...] = ()


def _build_table() -> tuple[int, ...]:
    table = []
    for index in range(256):
        remainder = index
        for _ in range(8):
            remainder = remainder >> 1 ^ (_POLYNOMIAL if remainder & 1 else 0)
        table.append(remainder)
    return tuple(table)


def crc32c_by_table(data: bytes | bytearray | memoryview, crc: int = 0) -> int:
    """The CRC-32C of `data` in pure Python; `crc` is that of the bytes before, to go on from."""
    global _table  # noqa: PLW0603 - built on first use, since most processes never need it
    table = _table
    if not table:
        table = _table = _build_table()
    crc ^= 0xFFFFFFFF
    for byte in memoryview(data).cast("B"):
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


class _Crc32c(Protocol):
    def __call__(self, data: bytes | bytearray | memoryview, crc: int = 0, /) -> int: ...


def _fastest() -> _Crc32c:
    native: _Crc32c
    module: Any
    try:
        module = None if _PACKAGE in sys.modules else _compiled_part()
        if module is None:
            import crc32c as module
        native = module.crc32c
    except (ImportError, AttributeError):
        return crc32c_by_table
    return native


def _compiled_part() -> Any:
    """The package's compiled module alone, None if it is not where it used to be.

    The package itself reads its own version from its metadata, and with that imports a quarter of what a broker imports to start.
    """
    from importlib.machinery import PathFinder
    from importlib.util import module_from_spec

    package = PathFinder.find_spec(_PACKAGE)
    if package is None:
        return None
    spec = PathFinder.find_spec(f"{_PACKAGE}._{_PACKAGE}", package.submodule_search_locations)
    if spec is None or spec.loader is None:
        return None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


crc32c: Final = _fastest()
"""The CRC-32C of bytes; a second argument is the CRC of the bytes before, to go on from."""
