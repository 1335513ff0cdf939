from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.records import checksum


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
@pytest.mark.parametrize("function", [checksum.crc32c, checksum.crc32c_by_table])
def test_numbers_of_the_rfc(function, data, expected):
    """RFC 3720, appendix B.4, and the check value of the polynomial."""
    assert function(data) == expected


@given(st.binary(max_size=200), st.integers(0, 200))
def test_table_agrees_with_the_native_code_and_continues(data, cut):
    """The fallback gives the same numbers, also in two steps and from a memoryview."""
    whole = checksum.crc32c(data)
    assert checksum.crc32c_by_table(memoryview(data)) == whole
    assert checksum.crc32c(data[cut:], checksum.crc32c(data[:cut])) == whole
    assert checksum.crc32c_by_table(data[cut:], checksum.crc32c_by_table(data[:cut])) == whole


def test_without_the_package_the_table_is_used(monkeypatch):
    """Wherever Python runs, checksums work."""
    monkeypatch.setitem(sys.modules, "crc32c", None)
    assert checksum._fastest() is checksum.crc32c_by_table


def test_the_package_is_not_imported_as_a_whole():
    """Only its compiled part, since the rest reads metadata at every start; and both give the same numbers."""
    script = """
import sys
from barnabas.records import checksum
assert "importlib.metadata" not in sys.modules
light = checksum.crc32c
assert light is not checksum.crc32c_by_table
import crc32c
assert checksum._fastest() is crc32c.crc32c
assert light(b"123456789") == crc32c.crc32c(b"123456789") == 0xE3069283
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
