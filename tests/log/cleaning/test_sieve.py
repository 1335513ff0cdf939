"""What stays of batches, many at a time: the same as of each on its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.log.cleaning import key_reader, sieve
from barnabas.log.cleaning.key_reader import KeyReader
from barnabas.log.cleaning.offset_map import BYTES_PER_KEY, OffsetMap
from barnabas.log.cleaning.sieve import Sieve
from barnabas.records.batch import parse_header
from barnabas.records.builder import build_batch
from barnabas.records.filtering import filter_batch, scan_keys, set_delete_horizon
from barnabas.records.record import uncompressed_records

NOW_MS = 1_700_000_000_000
RULES = {"now_ms": NOW_MS, "delete_retention_ms": 1000}
RECORDS = st.lists(
    st.tuples(
        st.integers(NOW_MS - 10**6, NOW_MS),
        st.sampled_from([b"a", b"b", b"c", b"d" * 20, b"e" * 70, b"f" * 70, b"g" * 300, b"", None]),
        st.none() | st.binary(max_size=100),
        st.sampled_from([1, 1, 1, 1, 1, 2, 5]),
    ),
    min_size=1,
    max_size=12,
)
BATCHES = st.lists(
    st.tuples(
        RECORDS, st.sampled_from([0, 0, 3, 4]), st.booleans(), st.sampled_from([None, NOW_MS, NOW_MS + 1])
    ),
    min_size=1,
    max_size=8,
)


def build(drawn, *, has_odd):
    """The batches, with gaps between and within."""
    offset = 100
    for records, codec, is_transactional, horizon_ms in drawn:
        kept = []
        base_offset = offset
        for time_ms, key, value, step in records:
            known = key if has_odd else key or b"a"
            kept.append((offset, time_ms, known, value, ()))
            offset += step if has_odd else 1
        builder = {"compression": codec, "base_offset": base_offset, "is_transactional": is_transactional}
        batch = bytes(build_batch(kept, keep_offsets=True, **builder))
        if horizon_ms is not None:
            batch = bytes(set_delete_horizon(batch, horizon_ms, limit_bytes=1 << 20))
        yield parse_header(batch), batch
        offset += 3 if has_odd else 0


def keys_and_offsets(header, batch):
    places = scan_keys(uncompressed_records(batch, 0, header), header.record_count)
    return zip(places.keys, places.offsets(header.base_offset), strict=True)


def drained(found, waiting):
    rest = found.drain()
    return [next(rest) if filtered is None else filtered for filtered in waiting]


@pytest.mark.parametrize("fewest", [1, 24])
@pytest.mark.parametrize("has_odd", [False, True])
@given(
    drawn=BATCHES, first=st.integers(0, 7), most_bytes=st.sampled_from([100, 10_000]), room=st.integers(1, 9)
)
def test_the_same_as_each_batch_on_its_own(fewest, has_odd, drawn, first, most_bytes, room):
    """Records, checksums and delete horizons; of batches whose keys were read, of such before them and such behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_reader, "FEWEST_RECORDS", fewest)
        patch.setattr(sieve, "FEWEST_RECORDS", fewest)
        batches = list(build(drawn, has_odd=has_odd))
        start_offset = batches[min(first, len(batches) - 1)][0].base_offset + first % 2
        keys = OffsetMap(BYTES_PER_KEY * room, 1.0)
        reader = KeyReader(keys, start_offset, most_bytes=most_bytes)
        dirty = [(header, batch) for header, batch in batches if header.last_offset >= start_offset]
        has_room = all(reader.add(header, b"before" + batch + b"behind", 6) for header, batch in dirty)
        has_room = has_room and reader.finish()
        newest = {
            key: offset
            for header, batch in dirty
            for key, offset in keys_and_offsets(header, batch)
            if key is not None and offset >= start_offset and (has_room or offset <= keys.latest_offset)
        }
        names = list(newest)
        assert list(keys.newest_offsets(names)) == [newest[key] for key in names]
        assert len(keys) == len(newest)
        assert not (has_room and dirty) or keys.latest_offset == batches[-1][0].last_offset

        found = Sieve(
            keys,
            start_offset,
            keys.all_offsets() if reader.is_regular else None,
            most_bytes=most_bytes,
            **RULES,
        )
        results, waiting = [], []
        for header, batch in batches:
            waiting.append(found.add(header, b"before" + batch + b"behind", 6))
            if found.is_full:
                results += drained(found, waiting)
                waiting = []
        results += drained(found, waiting)
    for (header, batch), filtered in zip(batches, results, strict=True):
        alone = filter_batch(batch, header, keys.newest_offsets, limit_bytes=1 << 20, **RULES)
        assert filtered.record_count == alone.record_count
        assert filtered.keyless == alone.keyless
        assert (filtered.batch and bytes(filtered.batch)) == (alone.batch and bytes(alone.batch))
