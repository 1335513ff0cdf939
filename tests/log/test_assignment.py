from __future__ import annotations

import pytest

from barnabas.errors import ErrorCode, KafkaError
from barnabas.log.assignment import assign_offsets, check_from_leader
from barnabas.records.batch import check_crc, iterate_headers
from tests.log.harness import batch


def headers_of(records):
    return [header for _, header in iterate_headers(records)]


@pytest.mark.parametrize("append_time_ms", [-1, 7000])
def test_assign_offsets(append_time_ms):
    """The batches follow each other from the first offset on, in the buffer as in the returned headers."""
    records = batch(b"a", b"b") + batch(b"c") + batch(b"d", b"e")
    times = [header.max_timestamp for header in headers_of(records)]
    assigned = assign_offsets(records, headers_of(records), 100, 9, append_time_ms)
    found = headers_of(records)
    assert [(header.base_offset, header.last_offset) for header in found] == [
        (100, 101),
        (102, 102),
        (103, 104),
    ]
    assert [header.base_offset for header in assigned] == [header.base_offset for header in found]
    assert {header.partition_leader_epoch for header in found} == {9}
    assert [header.max_timestamp for header in assigned] == (times if append_time_ms < 0 else [7000] * 3)
    assert [header.max_timestamp for header in found] == [header.max_timestamp for header in assigned]
    assert all(check_crc(records, position) for position, _ in iterate_headers(records))


class TestFromLeader:
    def test_whole_batches(self):
        """Whole batches count; the unfinished one behind them does not."""
        records = batch(b"a", base_offset=5) + batch(b"b", base_offset=8)
        headers, size = check_from_leader(records + batch(b"c", base_offset=9)[:-1], 5, "t-0")
        assert ([header.base_offset for header in headers], size) == ([5, 8], len(records))

    def test_nothing(self):
        """No batch is no error."""
        assert check_from_leader(b"", 5, "t-0") == ([], 0)

    @pytest.mark.parametrize("base_offset", [0, 4])
    def test_below_the_end(self, base_offset):
        """Offsets that are there already are refused."""
        with pytest.raises(KafkaError, match="where 5 is due") as refused:
            check_from_leader(batch(b"a", base_offset=base_offset), 5, "t-0")
        assert refused.value.code is ErrorCode.OFFSET_OUT_OF_RANGE

    def test_damage(self):
        """A batch that was damaged on its way is refused."""
        records = batch(b"a", base_offset=5)
        records[-1] ^= 1
        with pytest.raises(KafkaError, match="fails its checksum") as refused:
            check_from_leader(records, 5, "t-0")
        assert refused.value.code is ErrorCode.CORRUPT_MESSAGE
