from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from barnabas.log.open_transactions import OpenTransactions

steps = st.lists(st.tuples(st.sampled_from(["begin", "end", "settle"]), st.integers(0, 9)), max_size=40)


@given(steps)
def test_against_a_plain_list(steps):
    """Whatever begins, ends and is replicated: readers stop at the first record of what is not settled."""
    transactions = OpenTransactions()
    plain = []  # [first offset, producer, marker's offset or None]
    offset = 0
    for kind, number in steps:
        ongoing = [entry for entry in plain if entry[2] is None]
        if kind == "begin":
            plain.append([offset, number, None])
            transactions.begin(offset, number)
            offset += 3
        elif kind == "end" and ongoing:
            entry = ongoing[number % len(ongoing)]
            entry[2] = offset
            stable = transactions.end(entry[0], offset)
            assert stable == min((first for first, _, end in plain if end is None), default=offset + 1)
            offset += 1
        elif kind == "settle":
            high_watermark = max(0, offset - number)
            transactions.settle_below(high_watermark)
            plain = [entry for entry in plain if entry[2] is None or entry[2] >= high_watermark]
        assert transactions.first_unstable_offset == min((first for first, *_ in plain), default=None)
        assert transactions.first_undecided_offset == min(
            (first for first, _, end in plain if end is None), default=None
        )
        assert transactions.has_unreplicated == any(end is not None for *_, end in plain)
        oldest = min((entry for entry in plain if entry[2] is None), default=None)
        assert transactions.oldest_producer_id == (None if oldest is None else oldest[1])


def test_loading_sorts():
    """Open transactions of a snapshot come in any order."""
    transactions = OpenTransactions()
    transactions.begin(1, 1)
    transactions.end(1, 2)
    transactions.load([(30, 3), (10, 1), (20, 2)])
    assert transactions.first_unstable_offset == transactions.first_undecided_offset == 10
    assert transactions.end(10, 40) == 20
