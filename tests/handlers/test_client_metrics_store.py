"""What clients pushed, as Prometheus sees it."""

from __future__ import annotations

from barnabas.handlers.client_metrics_store import ClientMetricsStore
from barnabas.metrics import expose
from barnabas.wire.otlp import Point

CLIENT = {"client_id": "c"}


def samples(store):
    return {
        (family.metric.name, *sorted(sample.labels.items())): sample.value
        for family in store.families()
        for sample in family.samples
    }


def test_names_and_labels_are_those_of_prometheus():
    """Whatever a client calls them; a client cannot take the label of another."""
    store = ClientMetricsStore(10)
    points = [
        Point("org.apache.kafka.producer.connection.creation.total", (("node_id", "1"),), 3, True, False),
        Point("my metric-é", (("a.b", "x" * 999), ("1st", "y"), ("client_id", "another")), 0.5, False, False),
    ]
    store.record(b"i" * 16, CLIENT, points, 100)
    found = samples(store)
    assert found["kafka_client_producer_connection_creation_total", ("client_id", "c"), ("node_id", "1")] == 3
    (odd,) = [key for key in found if "my_metric" in key[0]]
    assert odd == (
        "kafka_client_my_metric__",
        ("a_b", "x" * 200),
        ("client_id", "c"),
        ("label_1st", "y"),
    )
    _, text = expose(store.families())
    assert b"kafka_client_producer_connection_creation_total{" in text
    assert b"# TYPE kafka_client_producer_connection_creation_total counter" in text


def test_differences_are_added_up():
    """Sums told as deltas grow, others are replaced."""
    store = ClientMetricsStore(10)
    for value in (2, 3):
        points = [Point("d", (), value, True, True), Point("g", (), value, False, False)]
        store.record(b"i" * 16, CLIENT, points, 100)
    assert samples(store) == {
        ("kafka_client_d_total", ("client_id", "c")): 5,
        ("kafka_client_g", ("client_id", "c")): 3,
    }


def test_there_is_an_end_of_numbers():
    """What has no room is dropped and counted, and there is room again when clients fall silent."""
    store = ClientMetricsStore(5)
    for number in range(4):
        points = [Point(f"m{index}", (), index, False, False) for index in range(2)]
        store.record(bytes([number]) * 16, {"client_id": str(number)}, points, 100 + number)
    assert (len(store), store.dropped) == (5, 3)
    store.expire(101)
    assert len(store) == 1
    store.expire(200)
    assert (len(store), store.families()) == (0, [])
