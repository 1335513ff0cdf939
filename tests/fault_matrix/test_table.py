"""The page of the fault matrix."""

from __future__ import annotations

import pytest

from tests.fault_matrix.table import BEGIN, END, Result, merged, page_with, table

TITLES = {"kill": "kill -9", "cut": "cut off"}
GOOD = Result("kill", "Barnabas 1", rounds=1, acknowledged=1234, longest_s=7.25, others_s=6.04, unread_s=8.0)


def test_a_table_has_the_rows_in_their_order_and_our_system_first():
    lines = table(
        [Result("cut", "Barnabas 1", trouble="no namespaces"), Result("kill", "Apache Kafka 3"), GOOD], TITLES
    ).splitlines()
    assert lines[2] == "| kill -9 | Barnabas 1 | 1,234 | 0 | 0 | 0 | 7.2 (6.0) | 8.0 |"
    assert lines[3].startswith("| kill -9 | Apache Kafka 3 |")
    assert lines[4] == "| cut off **(no namespaces)** | Barnabas 1 |  |  |  |  |  |  |"
    assert len(lines) == 5


def test_rounds_add_up_and_the_worst_of_them_counts():
    worse = Result("kill", "Barnabas 1", "1 moved", 1, 10, 1, 2, 3, 9.0, 7.0, 7.5)
    broken = Result("kill", "Barnabas 1", "AssertionError: it did not start")
    found = Result.over([GOOD, worse, broken, broken])
    assert found == Result(
        "kill",
        "Barnabas 1",
        "1 moved; AssertionError: it did not start",
        2,
        1244,
        1,
        2,
        3,
        9.0,
        pytest.approx(6.52),
        8.0,
    )
    assert not found.is_good
    assert Result.over([GOOD]) == GOOD
    assert GOOD.is_good


@pytest.mark.parametrize("bad", ["lost", "duplicated", "reordered"])
def test_one_bad_record_is_not_good(bad):
    assert not Result("kill", "Barnabas 1", rounds=1, **{bad: 1}).is_good


def test_a_page_keeps_what_is_outside_its_markers():
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert page_with(page, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    with pytest.raises(ValueError, match="no <!--"):
        page_with("before\n", "new")


def test_what_was_not_run_this_time_stays(tmp_path):
    path = tmp_path / "build" / "results.json"
    kafka = Result("kill", "Apache Kafka 3", rounds=1)
    assert merged(path, [GOOD, kafka]) == [GOOD, kafka]
    again = Result("kill", "Barnabas 1", rounds=1, acknowledged=1)
    assert merged(path, [again]) == [again, kafka]
