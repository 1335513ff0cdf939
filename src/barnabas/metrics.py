"""What the broker counts, under the names that Kafka dashboards expect.

`METRICS` is the table of everything there is; docs/reference/metrics.md is generated from it. Names are Kafka's JMX
beans in the spelling of the JMX exporter's widespread Kafka rules: `kafka.server:type=BrokerTopicMetrics,
name=MessagesInPerSec,topic=t` is `kafka_server_brokertopicmetrics_messagesin_total{topic="t"}`.

A counter is an int in an object. Callers resolve labels once, keep the child and write `child.value += 1`; nothing here
is called on the way of a request but `Histogram.observe`. Everything is read and written on the loop's thread.

Exposition goes through prometheus_client, which is imported when a scrape comes, so that a broker without a
metrics port never loads it.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric as PrometheusMetric

    from barnabas.clock import Clock

__all__ = [
    "METRICS",
    "Counter",
    "Family",
    "Gauge",
    "Histogram",
    "Metric",
    "MetricType",
    "Registry",
    "Sample",
    "expose",
]

MetricType = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    """A line of the table.

    A counter with `has_total` is also exposed without labels, summed over all it ever had, as Kafka does for topics.
    """

    name: str
    type: MetricType
    labels: tuple[str, ...]
    sentence: str
    has_total: bool = False


_TOPIC = ("topic",)
_LISTENER = ("listener", "networkProcessor")
_REQUEST = ("request",)
_PARTITION = ("topic", "partition")

METRICS: tuple[Metric, ...] = (
    # Topics
    Metric("kafka_server_brokertopicmetrics_messagesin_total", "counter", _TOPIC, "Records appended for producers.", True),
    Metric("kafka_server_brokertopicmetrics_bytesin_total", "counter", _TOPIC, "Bytes of record batches appended for producers.", True),
    Metric("kafka_server_brokertopicmetrics_bytesout_total", "counter", _TOPIC, "Bytes of record batches fetched by consumers.", True),
    Metric("kafka_server_brokertopicmetrics_bytesrejected_total", "counter", _TOPIC, "Bytes of record batches refused because they were too large.", True),
    Metric("kafka_server_brokertopicmetrics_totalproducerequests_total", "counter", _TOPIC, "Produce requests, counted for each topic partition in them.", True),
    Metric("kafka_server_brokertopicmetrics_totalfetchrequests_total", "counter", _TOPIC, "Fetch requests, counted for each topic partition read.", True),
    Metric("kafka_server_brokertopicmetrics_failedproducerequests_total", "counter", _TOPIC, "Topic partitions for which a produce request failed, except for what clients expect (another leader, records too large or corrupt).", True),
    Metric("kafka_server_brokertopicmetrics_failedfetchrequests_total", "counter", _TOPIC, "Topic partitions that could not be read because of this broker's disk.", True),
    Metric("kafka_server_brokertopicmetrics_nokeycompactedtopicrecords_total", "counter", _TOPIC, "Batches refused because a compacted topic got a record without a key.", True),
    Metric("kafka_server_brokertopicmetrics_invalidmagicnumberrecords_total", "counter", _TOPIC, "Batches refused for their magic number.", True),
    Metric("kafka_server_brokertopicmetrics_invalidmessagecrcrecords_total", "counter", _TOPIC, "Batches refused for their checksum.", True),
    Metric("kafka_server_brokertopicmetrics_invalidoffsetorsequencerecords_total", "counter", _TOPIC, "Batches refused for their offsets or sequence numbers.", True),
    # Requests
    Metric("kafka_network_requestmetrics_requests_total", "counter", ("request", "version"), "Requests handled."),
    Metric("kafka_network_requestmetrics_errors_total", "counter", ("request", "error"), "Requests refused as a whole or for one of their topics, partitions or groups, by the error's name; not what is routine in a group, such as a rebalance."),
    Metric("kafka_network_requestmetrics_totaltimems", "histogram", _REQUEST, "Milliseconds from a request's arrival to its encoded response."),
    Metric("kafka_network_requestmetrics_localtimems", "histogram", _REQUEST, "Milliseconds in which a request was handled without waiting."),
    Metric("kafka_network_requestmetrics_remotetimems", "histogram", _REQUEST, "Milliseconds for which an answer was parked: for other replicas, the disk, records or members."),
    Metric("kafka_network_requestmetrics_requestbytes", "histogram", _REQUEST, "Sizes of requests in bytes."),
    Metric("kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent", "gauge", (), "Share of time (0 to 1) that the event loop was idle since the last scrape."),
    # Connections
    Metric("kafka_server_socket_server_metrics_connection_count", "gauge", _LISTENER, "Open connections."),
    Metric("kafka_server_socket_server_metrics_connection_creation_total", "counter", _LISTENER, "Connections accepted."),
    Metric("kafka_server_socket_server_metrics_connection_close_total", "counter", _LISTENER, "Connections closed, by whichever side."),
    Metric("kafka_server_socket_server_metrics_incoming_byte_total", "counter", _LISTENER, "Bytes received."),
    Metric("kafka_server_socket_server_metrics_outgoing_byte_total", "counter", _LISTENER, "Bytes sent."),
    Metric("kafka_server_socket_server_metrics_request_total", "counter", _LISTENER, "Requests received."),
    Metric("kafka_network_socketserver_networkprocessoravgidle_percent", "gauge", (), "Share of time (0 to 1) that the event loop was idle since the last scrape."),
    Metric("kafka_network_socketserver_expiredconnectionskilledcount", "gauge", (), "Connections closed because they were idle."),
    Metric("kafka_network_socketserver_memorypoolused", "gauge", (), "Bytes of requests received but not yet handled."),
    # Replicas
    Metric("kafka_server_replicamanager_partitioncount", "gauge", (), "Partitions on this broker."),
    Metric("kafka_server_replicamanager_leadercount", "gauge", (), "Partitions that this broker leads."),
    Metric("kafka_server_replicamanager_offlinereplicacount", "gauge", (), "Partitions on this broker whose log directory is offline."),
    Metric("kafka_server_replicamanager_underreplicatedpartitions", "gauge", (), "Led partitions with fewer in-sync replicas than replicas."),
    Metric("kafka_server_replicamanager_underminisrpartitioncount", "gauge", (), "Led partitions with fewer in-sync replicas than min.insync.replicas."),
    Metric("kafka_server_replicamanager_atminisrpartitioncount", "gauge", (), "Led partitions with exactly min.insync.replicas in-sync replicas."),
    Metric("kafka_server_replicamanager_partitionswithlatetransactionscount", "gauge", (), "Led partitions with a transaction that is open for more than transaction.max.timeout.ms and five minutes, of those whose log is open."),
    Metric("kafka_server_replicamanager_isrshrinks_total", "counter", (), "Replicas that this broker's leaders proposed to drop from the in-sync ones."),
    Metric("kafka_server_replicamanager_isrexpands_total", "counter", (), "Replicas that they proposed to add to the in-sync ones."),
    Metric("kafka_server_replicamanager_failedisrupdates_total", "counter", (), "Proposals of in-sync replicas that the controller refused."),
    Metric("kafka_server_replicafetchermanager_maxlag", "gauge", (), "Records by which the partition lags that is furthest behind its leader."),
    Metric("kafka_server_replicafetchermanager_failedpartitionscount", "gauge", (), "Partitions that are not followed any more because their disk failed."),
    Metric("kafka_server_delayedoperationpurgatory_purgatorysize", "gauge", ("delayedOperation",), "Parked requests: Produce for the disk, Fetch for records."),
    Metric("kafka_server_fetchsessioncache_numincrementalfetchsessions", "gauge", (), "Incremental fetch sessions."),
    Metric("kafka_server_fetchsessioncache_numincrementalfetchpartitionscached", "gauge", (), "Partitions in incremental fetch sessions."),
    Metric("kafka_server_fetchsessioncache_incrementalfetchsessionevictions_total", "counter", (), "Fetch sessions that made room for others."),
    # Broker and controller
    Metric("kafka_server_kafkaserver_brokerstate", "gauge", (), "1 starting, 2 recovering logs, 3 running, 6 shutting down."),
    Metric("kafka_controller_kafkacontroller_activecontrollercount", "gauge", (), "1 on the broker that is the controller, else 0."),
    Metric("kafka_controller_kafkacontroller_activebrokercount", "gauge", (), "Registered brokers that are not fenced."),
    Metric("kafka_controller_kafkacontroller_fencedbrokercount", "gauge", (), "Registered brokers that are fenced."),
    Metric("kafka_controller_kafkacontroller_globaltopiccount", "gauge", (), "Topics in the cluster."),
    Metric("kafka_controller_kafkacontroller_globalpartitioncount", "gauge", (), "Partitions in the cluster."),
    Metric("kafka_controller_kafkacontroller_offlinepartitionscount", "gauge", (), "Partitions in the cluster without a leader."),
    Metric("kafka_controller_kafkacontroller_preferredreplicaimbalancecount", "gauge", (), "Partitions in the cluster whose leader is not their first replica."),
    Metric("kafka_server_client_metrics_instance_count", "gauge", (), "Clients that were told what to measure, or have pushed it (KIP-714)."),
    Metric("kafka_server_client_metrics_throttle_count", "counter", (), "Requests of clients that asked or pushed too soon."),
    Metric("kafka_server_client_metrics_unknown_subscription_request_count", "counter", (), "Pushes of clients that did not know yet that their subscriptions had changed."),
    Metric("kafka_server_client_metrics_plugin_error_count", "counter", (), "Pushes that could not be read."),
    Metric("kafka_server_client_metrics_series", "gauge", (), "Numbers pushed by clients that are shown as kafka_client_..."),
    Metric("kafka_server_client_metrics_dropped_total", "counter", (), "Numbers pushed by clients for which barnabas.client.metrics.max.series leaves no room."),
    # Logs
    Metric("kafka_log_log_size", "gauge", _PARTITION, "Bytes of a partition's log."),
    Metric("kafka_log_log_logstartoffset", "gauge", _PARTITION, "First offset of a partition."),
    Metric("kafka_log_log_logendoffset", "gauge", _PARTITION, "Offset of the next record of a partition."),
    Metric("kafka_log_log_numlogsegments", "gauge", _PARTITION, "Segments of a partition's log."),
    Metric("kafka_log_logflushstats_logflushrateandtimems", "histogram", (), "Milliseconds that syncing a log to disk took; count and sum alone."),
    Metric("kafka_log_logmanager_offlinelogdirectorycount", "gauge", (), "Log directories that failed."),
    Metric("kafka_log_logmanager_logdirectoryoffline", "gauge", ("logDirectory",), "1 if the log directory failed, else 0."),
    # Compaction
    Metric("kafka_log_logcleaner_max_buffer_utilization_percent", "gauge", (), "Share of the map of keys that the last pass of any cleaner took, in percent."),
    Metric("kafka_log_logcleaner_cleaner_recopy_percent", "gauge", (), "Share of the bytes read that the last passes wrote anew, in percent."),
    Metric("kafka_log_logcleaner_max_clean_time_secs", "gauge", (), "Seconds that the last pass took, of the slowest cleaner."),
    Metric("kafka_log_logcleaner_max_compaction_delay_secs", "gauge", (), "Seconds for which a log has been due by max.compaction.lag.ms."),
    Metric("kafka_log_logcleaner_deadthreadcount", "gauge", (), "Cleaners that ended unexpectedly."),
    Metric("kafka_log_logcleanermanager_max_dirty_percent", "gauge", (), "Share of dirty bytes in the dirtiest log, in percent."),
    Metric("kafka_log_logcleanermanager_time_since_last_run_ms", "gauge", (), "Milliseconds since a cleaner last looked for work."),
    Metric("kafka_log_logcleanermanager_uncleanable_partitions_count", "gauge", ("logDirectory",), "Logs that cannot be compacted because their data is damaged."),
    Metric("kafka_log_logcleanermanager_uncleanable_bytes", "gauge", ("logDirectory",), "Dirty bytes of logs that cannot be compacted."),
    # Coordinators
    Metric("kafka_coordinator_group_groupmetadatamanager_numgroups", "gauge", (), "Groups that this broker coordinates."),
    Metric("kafka_coordinator_group_groupmetadatamanager_numgroupspreparingrebalance", "gauge", (), "Groups that wait for members to join."),
    Metric("kafka_coordinator_group_groupmetadatamanager_numgroupscompletingrebalance", "gauge", (), "Groups that wait for their leader's assignment."),
    Metric("kafka_coordinator_group_groupmetadatamanager_numgroupsstable", "gauge", (), "Groups at work."),
    Metric("kafka_coordinator_group_groupmetadatamanager_numgroupsempty", "gauge", (), "Groups without members whose offsets are kept."),
    Metric("kafka_coordinator_group_groupmetadatamanager_numgroupsdead", "gauge", (), "Groups that are being removed."),
    Metric("kafka_coordinator_group_groupmetadatamanager_numoffsets", "gauge", (), "Committed offsets that are kept."),
    Metric("kafka_server_group_coordinator_metrics_offset_commit_count", "counter", (), "Offsets committed."),
    Metric("kafka_server_group_coordinator_metrics_offset_expiration_count", "counter", (), "Offsets that expired."),
    Metric("kafka_server_group_coordinator_metrics_offset_deletion_count", "counter", (), "Offsets deleted on request."),
    Metric("kafka_server_group_coordinator_metrics_group_completed_rebalance_count", "counter", (), "Rebalances of classic groups that were completed."),
    Metric("kafka_coordinator_transaction_transactionstatemanager_numtransactionalids", "gauge", (), "Transactional ids that this broker coordinates."),
    Metric("kafka_coordinator_transaction_transactionstatemanager_numongoingtransactions", "gauge", (), "Transactions that are neither committed nor aborted yet."),
    Metric("kafka_coordinator_transaction_transactionmarkerchannelmanager_unknowndestinationqueuesize", "gauge", (), "Groups of transaction markers that wait for another try."),
    Metric("kafka_server_addpartitionstotxnmanager_verificationfailurerate_total", "counter", (), "Writes to partitions that did not belong to their transaction."),
    Metric("kafka_server_group_coordinator_metrics_consumer_group_rebalance_count", "counter", (), "Rebalances of consumer groups: each new group epoch is one."),
    Metric("kafka_server_group_coordinator_metrics_consumer_group_count", "gauge", ("state",), "Consumer groups (KIP-848) by state."),
)  # fmt: skip
"""Everything that Barnabas counts."""


class Counter:
    """A number that only grows. Callers may add to `value` directly."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self, amount: int = 1) -> None:
        """Count `amount` more."""
        self.value += amount


class Gauge:
    """A number that goes up and down; either kept in `value`, or asked for when somebody looks."""

    __slots__ = ("function", "value")

    def __init__(self) -> None:
        self.value: float = 0
        self.function: Callable[[], float] | None = None

    def read(self) -> float:
        """The number now."""
        return self.value if self.function is None else self.function()


BOUNDS = tuple(2.0 ** (exponent / 4) for exponent in range(-24, 33 * 4))
"""Upper bounds of the buckets of every histogram: four per power of two, from 16 microseconds (in ms) to 8 GB."""


class Histogram:
    """How observed numbers are distributed, within 19 %, over all time and over the last minutes."""

    __slots__ = ("_baseline", "_buckets", "_next_baseline", "count", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.sum: float = 0
        self._buckets = [0] * (len(BOUNDS) + 1)
        self._baseline: list[int] | None = None
        self._next_baseline: list[int] | None = None

    def observe(self, number: float) -> None:
        """Count a number (milliseconds or bytes)."""
        self._buckets[bisect_left(BOUNDS, number)] += 1
        self.count += 1
        self.sum += number

    def rotate(self) -> None:
        """Begin a new window: quantiles are those of the numbers since the last rotation but one."""
        self._baseline = self._next_baseline
        self._next_baseline = self._buckets.copy()

    def quantiles(self, *wanted: float) -> list[float]:
        """The quantiles (0 to 1) of the recent numbers; 0 if there were none."""
        recent = self._buckets
        if self._baseline is not None:
            recent = [now - before for now, before in zip(recent, self._baseline, strict=True)]
        total = sum(recent)
        results = []
        for quantile in wanted:
            rank = quantile * total
            seen = 0
            result = 0.0
            for index, amount in enumerate(recent):
                if amount and seen + amount >= rank:
                    low = BOUNDS[index - 1] if index else 0.0
                    high = BOUNDS[min(index, len(BOUNDS) - 1)]
                    result = low + (high - low) * (rank - seen) / amount
                    break
                seen += amount
            results.append(result)
        return results


class CountAndSum:
    """A histogram whose numbers are counted elsewhere: it has no quantiles."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[], tuple[int, float]]) -> None:
        self.function = function


Row = tuple[tuple[str, ...], float]
"""The values of a metric's labels in the table's order, and the number."""

Child = TypeVar("Child", Counter, Gauge, Histogram, CountAndSum)

WINDOW_MS = 60_000
"""Quantiles look back for one to two of these."""

QUANTILES = (0.5, 0.75, 0.95, 0.98, 0.99, 0.999)
"""Those of Kafka's histograms."""


class Sample(NamedTuple):
    """One line of the exposition: a suffix of the metric's name, labels, the number."""

    suffix: str
    labels: dict[str, str]
    value: float


class Family(NamedTuple):
    """A metric and its samples, copied: may be formatted in another thread.

    `rows` are samples as label values and number; the labels are named when they are formatted, off the loop.
    """

    metric: Metric
    samples: list[Sample]
    rows: Sequence[Row] = ()


class Registry:
    """All counters, gauges and histograms of one broker."""

    __slots__ = ("_children", "_clock", "_collectors", "_gone", "_listed", "_metrics", "_rotated_ms")

    def __init__(self, clock: Clock, metrics: tuple[Metric, ...] = METRICS) -> None:
        self._clock = clock
        self._metrics = {metric.name: metric for metric in metrics}
        self._children: dict[str, dict[tuple[str, ...], Any]] = {metric.name: {} for metric in metrics}
        self._listed: dict[str, Callable[[], Iterable[Row]]] = {}
        self._collectors: list[Callable[[], list[Family]]] = []
        # What forgotten children had counted, for the totals: they must never go back.
        self._gone = {metric.name: 0 for metric in metrics if metric.has_total}
        self._rotated_ms = clock.monotonic_ms()

    def counter(self, name: str, **labels: str) -> Counter:
        """The counter `name` with these labels; always the same object, to be kept by the caller."""
        return self._child(name, "counter", Counter, labels)

    def gauge(self, name: str, **labels: str) -> Gauge:
        """The gauge `name` with these labels; always the same object, to be kept by the caller."""
        return self._child(name, "gauge", Gauge, labels)

    def gauge_function(self, name: str, function: Callable[[], float], **labels: str) -> None:
        """Let `function` say, on the loop's thread, what the gauge `name` shows."""
        self._child(name, "gauge", Gauge, labels).function = function

    def histogram(self, name: str, **labels: str) -> Histogram:
        """The histogram `name` with these labels; always the same object, to be kept by the caller."""
        return self._child(name, "histogram", Histogram, labels)

    def count_and_sum(self, name: str, function: Callable[[], tuple[int, float]]) -> None:
        """Let `function` say, on the loop's thread, count and sum of the histogram `name`, which has no labels."""
        self._child(name, "histogram", lambda: CountAndSum(function), {})

    def listed(self, name: str, function: Callable[[], Iterable[Row]]) -> None:
        """Let `function` list, on the loop's thread, all numbers of the counter or gauge `name`: nothing is kept here.

        For what is counted elsewhere, or has more children than anybody should keep.
        """
        assert not self._metrics[name].has_total
        self._listed[name] = function

    def collected(self, function: Callable[[], list[Family]]) -> None:
        """Let `function` give, on the loop's thread, whole families whose names nobody knows before."""
        self._collectors.append(function)

    def _child(self, name: str, kind: MetricType, make: Callable[[], Child], labels: dict[str, str]) -> Child:
        metric = self._metrics[name]
        if metric.type != kind or labels.keys() != set(metric.labels):
            raise TypeError(
                f"{name} is a {metric.type} with the labels {metric.labels}, not a {kind} with {labels}"
            )
        key = tuple(labels[label] for label in metric.labels)
        children = self._children[name]
        child: Child | None = children.get(key)
        if child is None:
            child = children[key] = make()
        return child

    def forget(self, **labels: str) -> None:
        """Drop every child that has all of `labels`: the topic, partition or listener is gone.

        Whoever still holds such a child may go on counting; nobody will see it.
        """
        for name, children in self._children.items():
            names = self._metrics[name].labels
            if not labels.keys() <= set(names):
                continue
            if len(labels) == len(names):
                found = [key] if (key := tuple(labels[label] for label in names)) in children else []
            else:
                wanted = [(names.index(label), text) for label, text in labels.items()]
                found = [key for key in children if all(key[index] == text for index, text in wanted)]
            for key in found:
                child = children.pop(key)
                if name in self._gone:
                    self._gone[name] += child.value

    def collect(self) -> list[Family]:
        """Everything as it is now, copied; metrics that nobody has asked for yet are left out."""
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._rotated_ms >= WINDOW_MS:
            self._rotated_ms = now_ms
            for child in self._all_children():
                if isinstance(child, Histogram):
                    child.rotate()
        families = []
        for name, children in self._children.items():
            metric = self._metrics[name]
            rows = self._listed.get(name)
            if rows is not None:
                families.append(Family(metric, [], list(rows())))
                continue
            if not children and not self._gone.get(name):
                continue
            samples: list[Sample] = []
            for key, child in children.items():
                samples += _samples_of(child, dict(zip(metric.labels, key, strict=True)))
            if metric.has_total:
                total = self._gone[name] + sum(child.value for child in children.values())
                samples.append(Sample("", {}, total))
            families.append(Family(metric, samples))
        for collector in self._collectors:
            families += collector()
        return families

    def _all_children(self) -> Iterator[Counter | Gauge | Histogram | CountAndSum]:
        for children in self._children.values():
            yield from children.values()


def _samples_of(child: Counter | Gauge | Histogram | CountAndSum, labels: dict[str, str]) -> list[Sample]:
    if isinstance(child, Counter):
        return [Sample("", labels, child.value)]
    if isinstance(child, Gauge):
        return [Sample("", labels, child.read())]
    if isinstance(child, CountAndSum):
        count, total = child.function()
        return [Sample("_count", labels, count), Sample("_sum", labels, total)]
    quantiles = zip(QUANTILES, child.quantiles(*QUANTILES), strict=True)
    return [
        *(Sample("", {**labels, "quantile": str(quantile)}, number) for quantile, number in quantiles),
        Sample("_count", labels, child.count),
        Sample("_sum", labels, child.sum),
    ]


class _Snapshot:
    """What prometheus_client takes for a registry: an object that can be collected."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[PrometheusMetric]:
        from prometheus_client.metrics_core import Metric as PrometheusMetric
        from prometheus_client.process_collector import ProcessCollector

        for metric, samples, rows in self._families:
            # Kafka's histograms reach Prometheus as summaries: quantiles, count and sum.
            kind: str = "summary" if metric.type == "histogram" else metric.type
            # The text format wants the name of a counter without its ending, and the ending in the sample.
            name = metric.name.removesuffix("_total") if kind == "counter" else metric.name
            if kind == "counter" and name == metric.name:
                kind = "unknown"
            family = PrometheusMetric(name, metric.sentence, kind)
            for suffix, labels, value in samples:
                family.add_sample(metric.name + suffix, labels, value)
            for values, value in rows:
                family.add_sample(metric.name, dict(zip(metric.labels, values, strict=True)), value)
            yield family
        # Memory, CPU time and open files of the process, under the names that every Prometheus client uses.
        yield from ProcessCollector(registry=None).collect()


def expose(families: list[Family]) -> tuple[str, bytes]:
    """The content type and body of an answer to Prometheus (text format 0.0.4).

    Needs no state but its argument, and takes milliseconds for thousands of partitions: call it in a worker thread.
    """
    from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

    return CONTENT_TYPE_LATEST, generate_latest(_Snapshot(families))
