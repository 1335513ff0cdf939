from __future__ import annotations

import pytest

from barnabas.errors import DecodeError
from barnabas.log.batch_scan import scan_headers
from barnabas.log.files import Files
from tests.log.harness import batch


@pytest.fixture
def scan(tmp_path):
    files = Files()

    def scan(content, position=0, **options):
        path = tmp_path / "segment"
        path.write_bytes(content)
        return list(scan_headers(files, files.handle(path), position, len(content), **options))

    return scan


BATCHES = [bytes(batch(b"x" * size, base_offset=number)) for number, size in enumerate([0, 500, 3, 90])]


@pytest.mark.parametrize("chunk_bytes", [61, 100, 1000])
def test_every_batch(scan, chunk_bytes):
    """Each batch is found once, however the reads cut the file."""
    found = scan(b"".join(BATCHES), chunk_bytes=chunk_bytes)
    assert [header.base_offset for _, header in found] == [0, 1, 2, 3]
    assert [position for position, _ in found] == [sum(map(len, BATCHES[:number])) for number in range(4)]


def test_from_a_position(scan):
    """A scan may begin with any batch."""
    assert [header.base_offset for _, header in scan(b"".join(BATCHES), len(BATCHES[0]))] == [1, 2, 3]
    assert scan(b"") == []


@pytest.mark.parametrize("tail", [b"\0" * 100, b"x" * 5, BATCHES[1][:-1], BATCHES[1][:61]])
def test_torn(scan, tail):
    """What is no whole batch is an error that names file and position."""
    with pytest.raises(DecodeError, match=rf"segment .* position {len(BATCHES[0])}"):
        scan(BATCHES[0] + tail)
