"""What Hypothesis draws in this room."""

from __future__ import annotations

from hypothesis import strategies as st

from barnabas.records.compression import Codec

timestamps = st.integers(0, 2**41) | st.just(-1)
optional_bytes = st.none() | st.binary(max_size=40) | st.binary(min_size=100, max_size=300)
headers = st.lists(st.tuples(st.text(max_size=10), st.none() | st.binary(max_size=20)), max_size=3).map(tuple)
records = st.tuples(st.just(0), timestamps, optional_bytes, optional_bytes, headers)
record_lists = st.lists(records, min_size=1, max_size=80)
codecs = st.sampled_from(list(Codec))
