"""The bench itself: every row can be measured on our broker, by the C generator and by the Python one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import generator
from bench.__main__ import begin_and_end, main, put_between_marks
from bench.table import Table
from bench.workload import WORKLOADS
from tests.zookeeper_process import zookeeper_jars

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the bench reads Linux's CPU clocks")

_ROOT = Path(__file__).parents[2]
BEGIN, END = begin_and_end()


def _bench(*arguments: object, **environment: str) -> str:
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    process = subprocess.Popen(
        command,
        cwd=_ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        printed, said = process.communicate()
    finally:
        # Also when the test takes too long: killed, it would leave its brokers behind.
        process.terminate()
        process.wait()
    assert process.returncode == 0, said
    return printed


def test_every_row_is_measured_and_written_down(tmp_path):
    """A quick run gives figures for every row, as a table between the marks of a page and as JSON."""
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    rows = ",".join(work.name for work in WORKLOADS if not work.name.startswith("cluster-"))
    printed = _bench(
        *("--quick", "--rounds", 1, "--only", "barnabas", "--rows", rows, "--write", page, "--json", figures)
    )
    written = page.read_text()
    assert printed.strip() in written
    assert written.startswith(f"before\n{BEGIN}\n")
    assert written.endswith(f"{END}\nafter\n")
    assert "old" not in written
    rows = json.loads(figures.read_text())["rows"]
    assert len(rows) > len(WORKLOADS)
    _check(rows)


def _check(rows):
    for row in rows:
        assert len(row["figures"]["barnabas"]) == 1, row
        assert all(figure >= 0 for figure in row["figures"]["barnabas"]), row


@pytest.mark.skipif(generator.compiled() is None, reason="the load of a cluster needs a C compiler")
@pytest.mark.parametrize(
    ("row", "figure"),
    [
        ("cluster-load", "three replicas, produce 100 B, 12 partitions"),
        ("cluster-failover", "failover, kill -9 of a leader that is the controller, session 6 s"),
        ("cluster-move", "0.005 GB to a new broker"),
        (
            "cluster-partitions",
            "30 partitions with three replicas: its start, until all replicas are in sync",
        ),
        ("cluster-growth", "2 brokers, 10 partitions: produce"),
    ],
)
def test_every_row_of_a_cluster_is_measured(tmp_path, row, figure):
    """Load, failover, a move, many partitions and growth, on brokers around a ZooKeeper."""
    zookeeper_jars()
    figures = tmp_path / "figures.json"
    _bench("--quick", "--rounds", 1, "--only", "barnabas", "--rows", row, "--json", figures)
    rows = json.loads(figures.read_text())["rows"]
    _check(rows)
    assert figure in [each["name"] for each in rows]


def test_rows_can_be_measured_without_a_compiler():
    """The generator in Python takes the place of the compiled one."""
    printed = _bench(
        *("--quick", "--rounds", 2, "--only", "barnabas", "--rows", "small*,bulk-100-none-*,endtoend"),
        BARNABAS_BENCH_PYTHON="1",
    )
    assert "Generator: Python" in printed
    for row in (
        "32 connections: p99.9 | fsync",
        "fetch 100 B, 100 partitions",
        "end to end at 5,000 records/s: p50",
    ):
        assert row in printed


def test_a_table_goes_between_the_marks_of_its_name(tmp_path):
    """A page may have several tables, of several runs."""
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}one{END} {''.join(begin_and_end('clusters'))}")
    put_between_marks(page, "two", "clusters")
    assert page.read_text().startswith(f"{BEGIN}one{END} <!-- clusters: begin -->\n\ntwo\n")
    with pytest.raises(SystemExit, match="has no"):
        put_between_marks(page, "three", "others")


def test_unknown_rows_are_refused():
    with pytest.raises(AssertionError):
        _bench("--rows", "nothing")


def test_the_generator_fails_when_the_broker_answers_with_an_error(tmp_path):
    """Refused requests are no throughput."""
    from bench import raw
    from bench.brokers import Barnabas

    broker = Barnabas(tmp_path)
    broker.start()
    try:
        frame = raw.produce_frame("missing", 0, records=1, size_bytes=10)
        with pytest.raises((RuntimeError, AssertionError), match=r"error 3|missing"):
            generator.pump(broker, [frame], warm_s=0, seconds=1, error_at=raw.produce_error_at("missing"))
    finally:
        broker.stop()


@pytest.mark.parametrize("is_compiled", [True, False])
def test_a_measurement_lasts_until_something_is_answered(tmp_path, monkeypatch, is_compiled):
    """Where the machine is so busy that no answer comes in time, there is nothing to divide by."""
    from bench import raw
    from bench.brokers import Barnabas

    if not is_compiled:
        monkeypatch.setattr(generator, "compiled", lambda: None)
    broker = Barnabas(tmp_path)
    broker.start()
    try:
        raw.create_topic(broker.port, "t", 1)
        load = generator.pump(
            broker,
            [raw.produce_frame("t", 0, records=1, size_bytes=10)],
            warm_s=0,
            seconds=1e-9,
            error_at=raw.produce_error_at("t"),
        )
        assert load.requests > 0
    finally:
        broker.stop()


def test_a_row_that_fails_is_told_and_the_others_are_measured(tmp_path, monkeypatch):
    """An hour of figures is not lost because of one row, and nobody takes them for complete."""
    monkeypatch.setattr(generator, "end_to_end", lambda *_, **__: 1 / 0)
    page = tmp_path / "page.md"
    page.write_text(f"{BEGIN}{END}")
    monkeypatch.setattr(
        sys,
        "argv",
        ["bench", "--quick", "--rounds=1", "--only=barnabas", "--rows=endtoend,small1", "--write", str(page)],
    )
    with pytest.raises(SystemExit, match="1"):
        main()
    assert "Failed: endtoend with Barnabas: ZeroDivisionError: division by zero" in page.read_text()
    assert "one-record produces, 1 connection: p99" in page.read_text()


class _Named:
    def __init__(self, name):
        self.name = name


def test_ratio_is_the_advantage_of_ours_whatever_is_better():
    """Above 1 is ahead, by the medians, for throughput as for latency; rows behind are listed again."""
    table = Table()
    for ours, theirs in ((10, 1), (30, 2), (20, 40)):
        table.add("Section", _Named("barnabas"), "speed", "MB/s", ours, more_is_better=True)
        table.add("Section", _Named("kafka"), "speed", "MB/s", theirs, more_is_better=True)
        table.add("Section", _Named("barnabas"), "delay", "ms", ours, more_is_better=False)
        table.add("Section", _Named("kafka"), "delay", "ms", theirs, more_is_better=False)
    speed, delay = table.rows.values()
    assert (speed.ratio, delay.ratio) == (10, 0.1)
    text = table.markdown()
    assert "| speed |  | MB/s | 20.0 (10.0 to 30.0) | 2.00 (1.00 to 40.0) | 10.00 |" in text
    assert "| delay" in text.partition("behind")[2]
    assert "| speed" not in text.partition("behind")[2]
