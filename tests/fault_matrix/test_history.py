"""The judge of the fault matrix: what it must see, and what it must let pass."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fault_matrix.history import Acknowledged, History, Place, Seen, Verdict, judge, silence

A = Place("orders", 0)
B = Place("orders", 1)

FATES = [field.name for field in dataclasses.fields(Verdict) if field.name != "examples"]


def fates(history: History) -> dict[str, int]:
    """What happened at all."""
    verdict = judge(history)
    assert verdict.is_good == (not verdict.examples)
    return {name: count for name in FATES if (count := getattr(verdict, name))}


def good(counts: dict[Place, int]) -> History:
    """Two producers that take turns, all acknowledged, read and consumed."""
    history = History()
    for place, count in counts.items():
        for offset in range(count):
            producer, number, at_s = f"p{offset % 2}", offset // 2, float(offset)
            history.acknowledged.append(Acknowledged(place, producer, number, offset, at_s))
            history.log.append(Seen(place, offset, producer, number, at_s))
            history.consumed.append(Seen(place, offset, producer, number, at_s))
    return history


@given(st.dictionaries(st.sampled_from([A, B]), st.integers(0, 20)), st.randoms())
def test_a_good_history_is_good_in_whatever_order_it_was_written_down(counts, random):
    history = good(counts)
    for events in (history.acknowledged, history.log, history.consumed):
        random.shuffle(events)
    assert fates(history) == ({"acknowledged": total} if (total := sum(counts.values())) else {})


@given(st.integers(0, 19))
def test_an_acknowledged_record_that_is_not_in_the_log_is_lost_and_what_was_read_of_it_vanished(victim):
    history = good({A: 20, B: 3})
    del history.log[victim]
    assert fates(history) == {"acknowledged": 23, "lost": 1, "vanished": 1}


@given(st.integers(0, 19))
def test_a_record_that_nobody_acknowledged_may_be_in_the_log_or_not(victim):
    history = good({A: 20})
    del history.acknowledged[victim]
    assert fates(history) == {"acknowledged": 19}
    del history.log[victim]
    del history.consumed[victim]
    assert fates(history) == {"acknowledged": 19}


def test_a_record_of_another_partition_does_not_stand_for_the_lost_one():
    history = good({A: 2})
    history.log[1] = history.log[1]._replace(place=B, offset=0)
    history.consumed[1] = history.log[1]
    assert fates(history) == {"acknowledged": 2, "lost": 1}


@given(st.integers(0, 19))
def test_a_record_that_is_there_twice_is_duplicated_and_not_reordered_too(victim):
    history = good({A: 20})
    again = history.log[victim]._replace(offset=20)
    history.log.append(again)
    history.consumed.append(again)
    assert fates(history) == {"acknowledged": 20, "duplicated": 1}


@given(st.integers(0, 17))
def test_records_that_changed_places_are_reordered_and_moved(victim):
    history = good({A: 20})
    other = victim + 2  # the next one of the same producer
    first, second = history.log[victim], history.log[other]
    history.log[victim] = second._replace(offset=first.offset)
    history.log[other] = first._replace(offset=second.offset)
    history.consumed = list(history.log)
    assert fates(history) == {"acknowledged": 20, "reordered": 1, "moved": 2}


def test_records_of_two_producers_may_overtake_each_other():
    history = History(log=[Seen(A, 0, "one", 7, 0), Seen(A, 1, "two", 1, 0), Seen(A, 2, "one", 8, 0)])
    history.consumed = list(history.log)
    assert fates(history) == {}


def test_a_record_behind_many_later_ones_is_one_reordered_record():
    history = History(log=[Seen(A, offset, "p", n, 0) for offset, n in enumerate([0, 2, 3, 1, 4])])
    history.consumed = list(history.log)
    assert fates(history) == {"reordered": 1}


def test_a_record_at_another_offset_than_was_told_moved_but_not_if_none_was_told():
    history = good({A: 4})
    history.acknowledged[1] = history.acknowledged[1]._replace(offset=3)
    assert fates(history) == {"acknowledged": 4, "moved": 1}
    history.acknowledged[1] = history.acknowledged[1]._replace(offset=-1)
    assert fates(history) == {"acknowledged": 4}


@given(st.integers(0, 19))
def test_a_record_that_the_group_never_got_was_skipped(victim):
    history = good({A: 20})
    del history.consumed[victim]
    assert fates(history) == {"acknowledged": 20, "skipped": 1}


@given(st.integers(0, 19), st.integers(1, 3))
def test_a_record_that_the_group_got_again_was_redelivered_which_is_allowed(victim, times):
    history = good({A: 20})
    history.consumed += [history.consumed[victim]] * times
    verdict = judge(history)
    assert verdict.is_good
    assert verdict.redelivered == times


def test_a_record_that_the_group_got_and_that_another_one_stands_in_place_of_vanished():
    history = good({A: 4})
    history.consumed.append(Seen(A, 3, "p1", 99, 0))
    assert fates(history) == {"acknowledged": 4, "vanished": 1, "redelivered": 1}


def test_a_verdict_shows_examples_and_not_thousands():
    history = good({A: 1000})
    history.log.clear()
    verdict = judge(history)
    assert verdict.lost == verdict.vanished == 1000
    assert [example.split(":")[0] for example in verdict.examples] == ["lost"] * 5 + ["vanished"] * 5
    assert "number=0" in verdict.examples[0]


def test_silence_is_the_longest_gap_of_the_worst_partition_and_the_median_of_the_others():
    c = Place("orders", 2)
    events = [(A, 1.0), (A, 2.0), (A, 7.0), (B, 2.0), (B, 5.0), (B, 9.0), (c, 5.0), (A, 99.0), (A, -5.0)]
    found = silence(events, [A, B, c], 0.0, 10.0)
    assert found == (5.0, A, pytest.approx(4.5))


def test_silence_counts_up_to_the_first_event_and_after_the_last_one():
    assert silence([(A, 4.0)], [A], 0.0, 10.0) == (6.0, A, 6.0)
    assert silence([(A, 8.0)], [A], 0.0, 10.0) == (8.0, A, 8.0)
    assert silence([], [A, B], 0.0, 10.0) == (10.0, A, 10.0)


def test_events_that_came_in_another_order_do_not_change_the_silence():
    assert silence([(A, 8.0), (A, 3.0), (A, 5.0)], [A], 0.0, 10.0) == (3.0, A, 3.0)
