"""What the broker counts."""

from __future__ import annotations

import random
import re
import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from barnabas.metrics import METRICS, WINDOW_MS, Histogram, Metric, Registry, expose


class SteppedClock:
    def __init__(self):
        self.ms = 0.0

    def now_ms(self):
        return int(self.ms)

    def monotonic_ms(self):
        return self.ms


@pytest.fixture
def clock():
    return SteppedClock()


@pytest.fixture
def registry(clock):
    return Registry(clock)


BYTES_IN = "kafka_server_brokertopicmetrics_bytesin_total"
TOTAL_TIME = "kafka_network_requestmetrics_totaltimems"
PARTITIONS = "kafka_server_replicamanager_partitioncount"


def exposed(registry):
    """Samples by name and labels, read back from the text."""
    _, text = expose(registry.collect())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_the_table_is_sound():
    """Every metric has a name that Prometheus takes, once, and a sentence."""
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"kafka_[a-z0-9_]+", metric.name)
        assert metric.sentence.endswith(".")
        assert metric.name.endswith("_total") <= (metric.type == "counter")
        assert metric.type == "counter" or not metric.has_total


def test_a_child_is_made_once(registry):
    """The same name and labels give the same object, to be kept by the caller."""
    assert registry.counter(BYTES_IN, topic="a") is registry.counter(BYTES_IN, topic="a")
    assert registry.counter(BYTES_IN, topic="a") is not registry.counter(BYTES_IN, topic="b")


@pytest.mark.parametrize(
    ("kind", "name", "labels"),
    [
        ("gauge", BYTES_IN, {"topic": "a"}),
        ("counter", BYTES_IN, {}),
        ("counter", BYTES_IN, {"topic": "a", "partition": "0"}),
        ("counter", TOTAL_TIME, {"request": "Fetch"}),
    ],
)
def test_a_metric_is_used_as_the_table_says(registry, kind, name, labels):
    """Another type or other labels than in the table are a TypeError, an unknown name a KeyError."""
    with pytest.raises(TypeError, match=name):
        getattr(registry, kind)(name, **labels)
    with pytest.raises(KeyError):
        registry.counter("no_such_metric")


def test_exposition(registry):
    """Counters, gauges and histograms come out under their names, topics also as a total without labels."""
    registry.counter(BYTES_IN, topic="a").value += 3
    registry.counter(BYTES_IN, topic='quoted "b"\n').add(4)
    registry.gauge(PARTITIONS).value = 7
    registry.gauge_function("kafka_log_log_size", lambda: 11, topic="a", partition="0")
    registry.counter("kafka_server_group_coordinator_metrics_offset_commit_count").add(5)
    histogram = registry.histogram(TOTAL_TIME, request="Fetch")
    for number in (1, 2, 3):
        histogram.observe(number)
    samples = exposed(registry)
    assert samples[BYTES_IN, (("topic", "a"),)] == 3
    assert samples[BYTES_IN, (("topic", 'quoted "b"\n'),)] == 4
    assert samples[BYTES_IN, ()] == 7
    assert samples[PARTITIONS, ()] == 7
    assert samples["kafka_log_log_size", (("partition", "0"), ("topic", "a"))] == 11
    assert samples["kafka_server_group_coordinator_metrics_offset_commit_count", ()] == 5
    assert samples[TOTAL_TIME + "_count", (("request", "Fetch"),)] == 3
    assert samples[TOTAL_TIME + "_sum", (("request", "Fetch"),)] == 6
    assert 1 <= samples[TOTAL_TIME, (("quantile", "0.5"), ("request", "Fetch"))] <= 2.5
    if sys.platform == "linux":
        assert samples["process_resident_memory_bytes", ()] > 0


def test_numbers_that_are_kept_elsewhere(registry):
    """A function lists the children of a metric as they are at the scrape, or tells count and sum of a histogram."""
    sizes = {("a", "0"): 5}
    registry.listed("kafka_log_log_size", sizes.items)
    registry.count_and_sum("kafka_log_logflushstats_logflushrateandtimems", lambda: (2, 7.5))
    samples = exposed(registry)
    assert samples["kafka_log_log_size", (("partition", "0"), ("topic", "a"))] == 5
    assert samples["kafka_log_logflushstats_logflushrateandtimems_count", ()] == 2
    assert samples["kafka_log_logflushstats_logflushrateandtimems_sum", ()] == 7.5
    del sizes["a", "0"]
    assert "kafka_log_log_size" not in {name for name, _ in exposed(registry)}


def test_every_metric_can_be_exposed(registry):
    """The whole table survives the text format."""
    for metric in METRICS:
        getattr(registry, metric.type)(metric.name, **dict.fromkeys(metric.labels, "x"))
    names = {name for name, _ in exposed(registry)}
    assert {metric.name for metric in METRICS} <= names


def test_a_forgotten_topic_is_gone_but_counted(registry):
    """Children of a deleted topic disappear; the total over all topics does not go back."""
    registry.counter(BYTES_IN, topic="a").add(3)
    registry.counter(BYTES_IN, topic="b").add(4)
    registry.gauge("kafka_log_log_size", topic="a", partition="0").value = 1
    registry.gauge("kafka_log_log_size", topic="a", partition="1").value = 2
    registry.forget(topic="a", partition="1")
    registry.forget(topic="a")
    samples = exposed(registry)
    assert samples[BYTES_IN, ()] == 7
    assert samples[BYTES_IN, (("topic", "b"),)] == 4
    assert (BYTES_IN, (("topic", "a"),)) not in samples
    assert not [name for name, _ in samples if name == "kafka_log_log_size"]


def test_quantiles_are_near():
    """A quantile is within a bucket's width of the true one."""
    histogram = Histogram()
    numbers = [random.Random(1).lognormvariate(2, 2) for _ in range(10_000)]
    for number in numbers:
        histogram.observe(number)
    numbers.sort()
    wanted = (0.1, 0.5, 0.95, 0.999)
    for quantile, found in zip(wanted, histogram.quantiles(*wanted), strict=True):
        assert found == pytest.approx(numbers[int(quantile * len(numbers))], rel=0.2)


def test_extreme_numbers_are_counted():
    """Zero, tiny and huge numbers have a place, and an empty histogram has quantiles."""
    histogram = Histogram()
    assert histogram.quantiles(0.5) == [0.0]
    for number in (0, 1e-9, 1e15):
        histogram.observe(number)
    assert histogram.count == 3
    assert histogram.quantiles(1.0)[0] > 4e9


def test_quantiles_forget(registry, clock):
    """Quantiles show the last minutes, count and sum all time."""
    histogram = registry.histogram(TOTAL_TIME, request="Fetch")
    key = (TOTAL_TIME, (("quantile", "0.99"), ("request", "Fetch")))
    for _ in range(100):
        histogram.observe(1_000)
    assert exposed(registry)[key] > 800
    for _ in range(2):
        clock.ms += WINDOW_MS
        exposed(registry)
    for _ in range(10):
        histogram.observe(1)
    samples = exposed(registry)
    assert samples[key] < 2
    assert samples[TOTAL_TIME + "_count", (("request", "Fetch"),)] == 110


def test_a_table_of_its_own(clock):
    """A registry can be made for another table."""
    registry = Registry(clock, (Metric("kafka_x", "gauge", (), "X."),))
    registry.gauge("kafka_x").value = 1.5
    assert exposed(registry)["kafka_x", ()] == 1.5


def test_prometheus_client_is_not_loaded():
    """A broker without a metrics port does not import prometheus_client."""
    script = "import sys, barnabas.metrics, barnabas.network.metrics_endpoint; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
