"""What a broker counts, as a scraper sees it after some traffic."""

import asyncio
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from barnabas.errors import ErrorCode
from barnabas.metrics import METRICS
from barnabas.records.builder import build_batch
from barnabas.records.record import Record
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.fetch import FetchRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.offset_commit import OffsetCommitRequest
from barnabas.wire.messages.produce import ProduceRequest
from barnabas.wire.messages.write_txn_markers import WriteTxnMarkersRequest
from tests import topic_requests
from tests.event_loops import eventually
from tests.handlers.node import running

TOPICS = "kafka_server_brokertopicmetrics_"
REQUESTS = "kafka_network_requestmetrics_"
CONTROLLER = "kafka_controller_kafkacontroller_"
REPLICAS = "kafka_server_replicamanager_"
LOG = "kafka_log_log_"
SESSIONS = "kafka_server_fetchsessioncache_"
PARKED = "kafka_server_delayedoperationpurgatory_purgatorysize"


class Scrape:
    """The samples of one scrape, by name and labels."""

    def __init__(self, text):
        self.samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __call__(self, name, **labels):
        return self.samples.get((name, frozenset(labels.items())))

    @property
    def names(self):
        return {name for name, _ in self.samples}


async def scrape(broker):
    reader, writer = await asyncio.open_connection(*broker.metrics_address)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert head.startswith(b"HTTP/1.1 200 ")
    return Scrape(body.decode())


async def create(node, name, partition_count=1, **configs):
    request = topic_requests.create_topics([name], partition_count, **configs)
    answer = await node.call(request, topic_requests.CREATE)
    assert answer.topics[0].error_code == 0


def batch(count=1, size_bytes=10, **more):
    now_ms = int(time.time() * 1000)
    return bytearray(
        build_batch([Record(i, now_ms, None, b"x" * size_bytes, ()) for i in range(count)], **more)
    )


async def produce(node, topic, records, transactional_id=None):
    data = ProduceRequest.PartitionProduceData(index=0, records=bytes(records))
    topic_data = ProduceRequest.TopicProduceData(name=topic, partition_data=[data])
    request = ProduceRequest(
        transactional_id=transactional_id, acks=-1, timeout_ms=5000, topic_data=[topic_data]
    )
    answer = await node.call(request, 9)
    return answer.responses[0].partition_responses[0].error_code


def fetch(topic, *offsets, max_wait_ms=0, session=(0, 0)):
    return FetchRequest(
        max_wait_ms=max_wait_ms,
        min_bytes=1,
        max_bytes=1 << 20,
        session_id=session[0],
        session_epoch=session[1],
        topics=[
            FetchRequest.FetchTopic(
                topic=topic,
                partitions=[
                    FetchRequest.FetchPartition(
                        partition=index, fetch_offset=offset, partition_max_bytes=1 << 20
                    )
                    for index, offset in enumerate(offsets)
                ],
            )
        ],
    )


async def traffic(node):
    """Some of everything; gives the bytes of the batches that were taken."""
    await create(node, "orders", 2, max_message_bytes="500")
    taken = [batch(3), batch(1), batch(2, producer_id=7, producer_epoch=0, base_sequence=0)]
    for records in (*taken, taken[-1]):  # the last is sent twice, and taken once
        assert await produce(node, "orders", records) == 0
    torn = batch()
    torn[-1] ^= 1
    assert await produce(node, "orders", torn) == ErrorCode.CORRUPT_MESSAGE
    assert await produce(node, "orders", batch(1, 600)) == ErrorCode.MESSAGE_TOO_LARGE
    assert await produce(node, "orders", batch(base_offset=1)) == ErrorCode.INVALID_RECORD
    old = batch()
    old[16] = 1
    assert await produce(node, "orders", old) == ErrorCode.INVALID_RECORD
    gap = batch(producer_id=7, producer_epoch=0, base_sequence=9)
    assert await produce(node, "orders", gap) == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    await create(node, "compacted", cleanup_policy="compact")
    assert await produce(node, "compacted", batch()) == ErrorCode.INVALID_RECORD
    assert await produce(node, "nowhere", batch()) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION

    answer = await node.call(fetch("orders", 0, 0), 12)
    assert answer.session_id > 0
    assert len(answer.responses[0].partitions[0].records) == sum(map(len, taken))
    partition = OffsetCommitRequest.OffsetCommitRequestPartition(partition_index=0, committed_offset=7)
    topic = OffsetCommitRequest.OffsetCommitRequestTopic(name="orders", partitions=[partition])
    commit = OffsetCommitRequest(group_id="g", topics=[topic])
    await node.call(FindCoordinatorRequest(key="g"), 3)  # creates the internal topic
    while (await node.call(commit, 8)).topics[0].partitions[0].error_code:
        await asyncio.sleep(0.01)  # the coordinator loads
    return sum(map(len, taken))


IN_A_CLUSTER = {
    "kafka_server_replicafetchermanager_failedpartitionscount",
    "kafka_server_replicafetchermanager_maxlag",
    "kafka_server_replicamanager_failedisrupdates_total",
    "kafka_server_replicamanager_isrexpands_total",
    "kafka_server_replicamanager_isrshrinks_total",
}
"""What only a broker shows that has others beside it."""


async def test_every_metric_shows_what_happened(tmp_path, loop):
    """After some traffic a scrape has each metric of the table, with the numbers that the traffic makes."""
    async with running(tmp_path, barnabas_metrics_port=0, offsets_topic_num_partitions=2) as node:
        taken_bytes = await traffic(node)
        seen = await scrape(node.broker)

        missing = {
            metric.name
            for metric in METRICS
            if metric.name not in seen.names and metric.name + "_count" not in seen.names
        }
        assert missing == IN_A_CLUSTER

        topic = {"topic": "orders"}
        assert seen(TOPICS + "messagesin_total", **topic) == 6
        assert seen(TOPICS + "messagesin_total") == 6
        assert seen(TOPICS + "bytesin_total", **topic) == taken_bytes
        assert seen(TOPICS + "bytesout_total", **topic) == taken_bytes
        assert seen(TOPICS + "bytesrejected_total", **topic) == len(batch(1, 600))
        assert seen(TOPICS + "totalproducerequests_total", **topic) == 9
        assert seen(TOPICS + "totalproducerequests_total") == 10
        assert seen(TOPICS + "totalfetchrequests_total", **topic) == 2
        assert seen(TOPICS + "failedproducerequests_total", **topic) == 3
        assert seen(TOPICS + "failedfetchrequests_total", **topic) == 0
        assert seen(TOPICS + "nokeycompactedtopicrecords_total", topic="compacted") == 1
        assert seen(TOPICS + "invalidmagicnumberrecords_total", **topic) == 1
        assert seen(TOPICS + "invalidmessagecrcrecords_total", **topic) == 1
        assert seen(TOPICS + "invalidoffsetorsequencerecords_total", **topic) == 1

        assert seen(REQUESTS + "requests_total", request="Produce", version="9") == 11
        assert seen(REQUESTS + "errors_total", request="Produce", error="MESSAGE_TOO_LARGE") == 1
        for name in ("totaltimems", "localtimems", "remotetimems", "requestbytes"):
            assert seen(f"{REQUESTS}{name}_count", request="Produce") == 11
        total_ms = seen(REQUESTS + "totaltimems_sum", request="Produce")
        local_ms = seen(REQUESTS + "localtimems_sum", request="Produce")
        remote_ms = seen(REQUESTS + "remotetimems_sum", request="Produce")
        assert 0 < local_ms < total_ms
        assert 0 < remote_ms < total_ms  # for the disk
        assert seen(REQUESTS + "requestbytes_sum", request="Produce") > taken_bytes

        assert seen("kafka_server_kafkaserver_brokerstate") == 3
        assert seen(REPLICAS + "partitioncount") == 5
        assert seen(REPLICAS + "leadercount") == 5
        assert seen(REPLICAS + "atminisrpartitioncount") == 5
        for name in ("underminisrpartitioncount", "underreplicatedpartitions", "offlinereplicacount"):
            assert seen(REPLICAS + name) == 0
        assert seen(CONTROLLER + "activecontrollercount") == 1
        assert seen(CONTROLLER + "activebrokercount") == 1
        assert seen(CONTROLLER + "globaltopiccount") == 3
        assert seen(CONTROLLER + "globalpartitioncount") == 5
        for name in ("fencedbrokercount", "offlinepartitionscount", "preferredreplicaimbalancecount"):
            assert seen(CONTROLLER + name) == 0
        assert seen(SESSIONS + "numincrementalfetchsessions") == 1
        assert seen(SESSIONS + "numincrementalfetchpartitionscached") == 2
        assert seen(SESSIONS + "incrementalfetchsessionevictions_total") == 0
        assert seen(PARKED, delayedOperation="Fetch") == 0
        assert seen(PARKED, delayedOperation="Produce") == 0
        listener = {"listener": "PLAINTEXT", "networkProcessor": "0"}
        assert seen("kafka_server_socket_server_metrics_connection_count", **listener) == 1
        assert seen("kafka_server_group_coordinator_metrics_offset_commit_count") == 1

        here = {"topic": "orders", "partition": "0"}
        assert seen(LOG + "size", **here) == taken_bytes
        assert seen(LOG + "logstartoffset", **here) == 0
        assert seen(LOG + "logendoffset", **here) == 6
        assert seen(LOG + "numlogsegments", **here) == 1
        assert seen("kafka_log_logflushstats_logflushrateandtimems_count") >= 1
        assert seen("kafka_log_logflushstats_logflushrateandtimems_sum") > 0
        assert seen("kafka_log_logmanager_logdirectoryoffline", logDirectory=str(tmp_path / "data")) == 0
        assert seen("kafka_log_logmanager_offlinelogdirectorycount") == 0


async def test_logs_that_are_not_open_are_shown_too(tmp_path, loop):
    """After a restart the logs have their sizes and offsets, and looking opens none."""
    async with running(tmp_path) as node:
        taken_bytes = await traffic(node)
    async with running(tmp_path, barnabas_metrics_port=0) as node:
        here = {"topic": "orders", "partition": "0"}
        for _ in range(2):
            seen = await scrape(node.broker)
            assert seen(LOG + "size", **here) == taken_bytes
            assert seen(LOG + "numlogsegments", **here) == 1
            assert seen(LOG + "logstartoffset", **here) == 0
            assert seen(LOG + "logendoffset", **here) == 6
        assert not [log for log in node.broker.log_directories.all() if log.topic == "orders"]


async def test_a_deleted_topic_is_not_shown(tmp_path, loop):
    """Its counters go with it; the totals stay, and a new topic of its name begins at nothing."""
    async with running(tmp_path, barnabas_metrics_port=0) as node:
        await create(node, "orders")
        await produce(node, "orders", batch(4))
        await node.call(DeleteTopicsRequest(topic_names=["orders"], timeout_ms=5000), 5)
        seen = await scrape(node.broker)
        assert not [labels for _, labels in seen.samples if ("topic", "orders") in labels]
        assert seen(TOPICS + "messagesin_total") == 4
        await create(node, "orders")
        await produce(node, "orders", batch(1))
        seen = await scrape(node.broker)
        assert seen(TOPICS + "messagesin_total", topic="orders") == 1
        assert seen(TOPICS + "messagesin_total") == 5


async def test_a_parked_fetch_is_counted_while_it_waits(tmp_path, loop):
    """It stands among the parked ones, and its waiting is remote time, not local."""
    async with running(tmp_path, barnabas_metrics_port=0) as node:
        await create(node, "orders")
        parked = asyncio.ensure_future(node.call(fetch("orders", 0, max_wait_ms=300, session=(0, -1)), 12))
        await eventually(lambda: node.broker._waiting.fetch_count)
        assert (await scrape(node.broker))(PARKED, delayedOperation="Fetch") == 1
        await parked
        seen = await scrape(node.broker)
        assert seen(PARKED, delayedOperation="Fetch") == 0
        assert seen(REQUESTS + "remotetimems_sum", request="Fetch") > 200
        assert seen(REQUESTS + "localtimems_sum", request="Fetch") < 200
        assert seen(TOPICS + "totalfetchrequests_total", topic="orders") == 1


@pytest.mark.parametrize("port", [-1, 0])
async def test_times_are_measured_only_where_somebody_can_look(tmp_path, loop, port):
    """Without a metrics port the dispatcher is the plain one."""
    async with running(tmp_path, barnabas_metrics_port=port) as node:
        name = type(node.broker._server.dispatch.__self__).__name__
        assert name == ("Dispatcher" if port < 0 else "MeasuringDispatcher")
        assert (node.broker.metrics_address is None) == (port < 0)


async def test_transactions_that_hang_are_counted(tmp_path, loop):
    """A partition counts whose oldest transaction was last written to more than transaction.max.timeout.ms and five minutes ago."""
    config = {"transaction_partition_verification_enable": False, "transaction_max_timeout_ms": 60_000}
    async with running(tmp_path, barnabas_metrics_port=0, **config) as node:
        await create(node, "orders")
        await create(node, "others")
        late = REPLICAS + "partitionswithlatetransactionscount"

        async def open_transaction(topic, producer_id, age_ms):
            written_ms = int(time.time() * 1000) - age_ms
            record = Record(0, written_ms, None, b"x", ())
            more = {"producer_id": producer_id, "producer_epoch": 0, "base_sequence": 0}
            records = build_batch([record], is_transactional=True, **more)
            assert await produce(node, topic, records, f"writer-{producer_id}") == 0

        await open_transaction("others", 2, 300_000)
        assert (await scrape(node.broker))(late) == 0
        await open_transaction("orders", 1, 360_001)
        assert (await scrape(node.broker))(late) == 1
        # Only the oldest one of a partition counts.
        await open_transaction("others", 3, 500_000)
        assert (await scrape(node.broker))(late) == 1
        marker = WriteTxnMarkersRequest.WritableTxnMarker(
            producer_id=1,
            producer_epoch=0,
            transaction_result=False,
            coordinator_epoch=0,
            topics=[WriteTxnMarkersRequest.WritableTxnMarkerTopic(name="orders", partition_indexes=[0])],
        )
        answer = await node.call(WriteTxnMarkersRequest(markers=[marker]), 1)
        assert answer.markers[0].topics[0].partitions[0].error_code == 0
        assert (await scrape(node.broker))(late) == 0
