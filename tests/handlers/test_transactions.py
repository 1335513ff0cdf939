"""Transactions through a whole broker, as both versions of clients speak them."""

from __future__ import annotations

import uuid

import pytest

from barnabas.errors import ErrorCode
from barnabas.wire.messages.add_partitions_to_txn import AddPartitionsToTxnRequest
from barnabas.wire.messages.api_versions import ApiVersionsRequest
from barnabas.wire.messages.delete_topics import DeleteTopicsRequest
from barnabas.wire.messages.describe_producers import DescribeProducersRequest
from barnabas.wire.messages.describe_transactions import DescribeTransactionsRequest
from barnabas.wire.messages.list_transactions import ListTransactionsRequest
from barnabas.wire.messages.write_txn_markers import WriteTxnMarkersRequest
from tests.broker_process import BrokerProcess, wait_until
from tests.transactional_producer import (
    TransactionalProducer,
    call_until,
    committed_offset,
    create_topic,
    find_coordinator,
    last_stable_offset,
    read,
)
from tests.wire_client import WireClient


@pytest.fixture
def client(shared_broker):
    with WireClient(shared_broker.bootstrap_server) as client:
        yield client


@pytest.fixture
def topic(client):
    return create_topic(client, f"t-{uuid.uuid4().hex[:12]}", partitions=3)


@pytest.fixture(params=[1, 2])
def producer(client, request):
    return TransactionalProducer(client, f"x-{uuid.uuid4().hex[:12]}", request.param).start()


def describe(client, transactional_id):
    (state,) = client.call(
        DescribeTransactionsRequest(transactional_ids=[transactional_id]), 0
    ).transaction_states
    return state


def wait_for_state(client, transactional_id, state):
    wait_until(lambda: describe(client, transactional_id).transaction_state == state, what=state)


def test_the_feature_is_announced(client):
    """Clients speak version 2 because the cluster says that it does."""
    answer = client.call(ApiVersionsRequest(client_software_name="a", client_software_version="1"), 4)
    levels = {feature.name: feature.max_version_level for feature in answer.finalized_features}
    assert levels["transaction.version"] == 2


def test_what_is_committed_is_read_at_once_and_whole(client, topic, producer):
    """Until then readers of committed records stop before the first of them; others do not."""
    producer.write(topic, 0, b"a", b"b")
    producer.write(topic, 1, b"c")
    assert [read(client, topic, index) for index in range(2)] == [[], []]
    assert read(client, topic, 0, committed=False) == [b"a", b"b"]
    assert (last_stable_offset(client, topic), last_stable_offset(client, topic, committed=False)) == (0, 2)
    producer.finish(commit=True)
    wait_until(lambda: [read(client, topic, index) for index in range(2)] == [[b"a", b"b"], [b"c"]])
    assert last_stable_offset(client, topic) == 3


def test_what_is_aborted_is_never_read(client, topic, producer):
    """Not even beside what others have committed."""
    other = TransactionalProducer(client, f"{producer.transactional_id}-other").start()
    producer.write(topic, 0, b"a")
    other.write(topic, 0, b"b")
    other.finish(commit=True)
    assert read(client, topic) == []
    producer.write(topic, 0, b"c")
    producer.finish(commit=False)
    wait_until(lambda: last_stable_offset(client, topic) == 5)
    assert read(client, topic) == [b"b"]
    assert read(client, topic, committed=False) == [b"a", b"b", b"c"]


def test_a_producer_goes_on_after_either_end(client, topic, producer):
    """With what it has, in one transaction after the other."""
    for number, commit in enumerate([True, False, True, True, False, True]):
        producer.write(topic, 0, b"%d" % number)
        producer.finish(commit=commit)
    wait_until(lambda: read(client, topic) == [b"0", b"2", b"3", b"5"])


def test_version_2_has_an_epoch_for_each_transaction(client, topic):
    """And whoever comes with the one before is refused."""
    producer = TransactionalProducer(client, f"x-{topic}").start()
    late = TransactionalProducer(client, f"x-{topic}")
    late.producer_id, late.epoch = producer.producer_id, producer.epoch
    producer.write(topic, 0, b"a")
    producer.finish(commit=True)
    assert (producer.producer_id, producer.epoch) == (late.producer_id, late.epoch + 1)
    wait_for_state(client, producer.transactional_id, "CompleteCommit")
    assert late.produce(topic, 0, b"late", sequence=1).error_code == ErrorCode.INVALID_PRODUCER_EPOCH
    assert late.produce(topic, 1, b"late").error_code == ErrorCode.INVALID_PRODUCER_EPOCH
    # Its end is the retry of one that is known, and not of the other.
    assert late.end(commit=True).error_code == 0
    late.epoch -= 1
    assert late.end(commit=False).error_code == ErrorCode.INVALID_TXN_STATE
    late.epoch -= 1
    assert late.end(commit=True).error_code == ErrorCode.PRODUCER_FENCED


def test_version_1_adds_partitions_before_it_writes(client, topic):
    """A write to any other partition is refused, in words that old clients know."""
    producer = TransactionalProducer(client, f"x-{topic}", version=1).start()
    answer = producer.produce(topic, 0, b"a", version=9)
    assert answer.error_code == ErrorCode.INVALID_TXN_STATE
    assert answer.error_message == "Partition was not added to the transaction"
    assert producer.produce(topic, 0, b"a", version=11).error_code == ErrorCode.TRANSACTION_ABORTABLE
    producer.write(topic, 1, b"b")
    assert producer.produce(topic, 0, b"a", version=9).error_code == ErrorCode.INVALID_TXN_STATE
    producer.finish(commit=True)
    wait_until(lambda: read(client, topic, 1) == [b"b"])


def test_pipelined_writes_of_a_transaction_stay_in_order(client, topic):
    """Also those that come while the coordinator is still asked for the first of them."""
    producer = TransactionalProducer(client, f"x-{topic}").start()
    for _ in range(3):
        for number in range(20):
            request = producer.produce_request(topic, number % 2, [b"%d" % number], sequence=number // 2)
            client.send(request, 12)
        answers = [client.receive().responses[0].partition_responses[0] for _ in range(20)]
        assert [answer.error_code for answer in answers] == [0] * 20
        producer.finish(commit=True)
    expected = [b"%d" % number for number in range(0, 20, 2)] * 3
    wait_until(lambda: read(client, topic, 0) == expected)


def test_a_transaction_waits_for_the_one_before(client, topic):
    """What comes right after the end of another finds it complete, and is not sent away."""
    producer = TransactionalProducer(client, f"x-{topic}").start()
    for number in range(20):
        answer = producer.produce(topic, number % 3, b"%d" % number)
        assert answer.error_code == 0
        assert producer.end(commit=True).error_code == 0


def test_who_comes_second_fences_the_first(client, topic, producer):
    """An open transaction is aborted for it."""
    producer.write(topic, 0, b"a")
    second = TransactionalProducer(client, producer.transactional_id, producer.version)
    assert second.init().error_code == ErrorCode.CONCURRENT_TRANSACTIONS
    second.start()
    assert second.producer_id == producer.producer_id
    assert second.epoch == producer.epoch + 2
    assert producer.end(commit=True).error_code == ErrorCode.PRODUCER_FENCED
    assert producer.produce(topic, 0, b"b").error_code == ErrorCode.INVALID_PRODUCER_EPOCH
    assert read(client, topic) == []
    second.write(topic, 0, b"c")
    second.finish(commit=True)
    wait_until(lambda: read(client, topic) == [b"c"])


def test_a_producer_that_says_what_it_has_goes_on(client, producer):
    """Its retry gets the same; after somebody else it is fenced (KIP-360)."""
    before = producer.epoch
    assert producer.init(keep=True).producer_epoch == before + 1
    retry = TransactionalProducer(client, producer.transactional_id)
    retry.producer_id, retry.epoch = producer.producer_id, before
    assert retry.init(keep=True).producer_epoch == before + 1
    other = TransactionalProducer(client, producer.transactional_id).start()
    assert other.epoch == before + 2
    assert producer.init(keep=True).error_code == ErrorCode.PRODUCER_FENCED
    assert producer.init(keep=True, version=3).error_code == ErrorCode.INVALID_PRODUCER_EPOCH


@pytest.mark.parametrize("timeout_ms", [0, -1, 900_001])
def test_time_outs_have_a_limit(client, producer, timeout_ms):
    """`transaction.max.timeout.ms`."""
    assert producer.init(timeout_ms=timeout_ms).error_code == ErrorCode.INVALID_TRANSACTION_TIMEOUT


def test_offsets_count_once_the_transaction_commits(client, topic, producer):
    """Until then they are unstable for whoever asks for stable ones (KIP-447)."""
    group = f"g-{topic}"
    find_coordinator(client, group, 0)
    producer.write(topic, 0, b"a")
    producer.write_offsets(group, topic, {0: 7})
    assert committed_offset(client, group, topic) == (0, -1)
    assert committed_offset(client, group, topic, require_stable=True) == (
        ErrorCode.UNSTABLE_OFFSET_COMMIT,
        -1,
    )
    assert committed_offset(client, group, topic, 1, require_stable=True) == (0, -1)
    producer.finish(commit=True)
    wait_until(lambda: committed_offset(client, group, topic, require_stable=True) == (0, 7))
    producer.write_offsets(group, topic, {0: 9})
    producer.finish(commit=False)
    wait_until(lambda: committed_offset(client, group, topic, require_stable=True) == (0, 7))


def test_offsets_of_a_producer_that_is_not_in_a_transaction(client, topic):
    """Are refused: the group's partition does not belong to it."""
    producer = TransactionalProducer(client, f"x-{topic}", version=1).start()
    group = f"g-{topic}"
    find_coordinator(client, group, 0)
    assert producer.commit_offsets(group, topic, {0: 1}, version=3) == {
        (topic, 0): ErrorCode.INVALID_TXN_STATE
    }
    assert producer.commit_offsets(group, topic, {0: 1}, version=4) == {
        (topic, 0): ErrorCode.TRANSACTION_ABORTABLE
    }
    assert producer.commit_offsets(group, "missing", {0: 1}) == {
        ("missing", 0): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    }
    assert producer.add_offsets(group) == 0
    assert producer.commit_offsets(group, topic, {0: 1, 8: 1}) == {
        (topic, 0): 0,
        (topic, 8): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert producer.commit_offsets(group, topic, {0: 1}, generation=3, member="m") == {
        (topic, 0): ErrorCode.UNKNOWN_MEMBER_ID
    }
    producer.finish(commit=True)


def test_partitions_are_added_all_or_none(client, topic, producer):
    """A partition that does not exist keeps the others out."""
    codes = producer.add(topic, 0, 9)
    assert codes == {
        (topic, 0): ErrorCode.OPERATION_NOT_ATTEMPTED,
        (topic, 9): ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    }
    assert describe(client, producer.transactional_id).transaction_state == "Empty"
    assert producer.add("__consumer_offsets", 0) == {
        ("__consumer_offsets", 0): ErrorCode.TOPIC_AUTHORIZATION_FAILED
    }


def test_brokers_add_and_ask_for_several_transactions(client, topic, producer):
    """AddPartitionsToTxn from version 4 on."""
    topics = [AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(name=topic, partitions=[0, 1])]

    def ask(transactional_id, *, verify_only):
        each = AddPartitionsToTxnRequest.AddPartitionsToTxnTransaction(
            transactional_id=transactional_id,
            producer_id=producer.producer_id,
            producer_epoch=producer.epoch,
            verify_only=verify_only,
            topics=topics,
        )
        answer = client.call(AddPartitionsToTxnRequest(transactions=[each]), 5)
        assert answer.error_code == 0
        (result,) = answer.results_by_transaction
        assert result.transactional_id == transactional_id
        return [each.partition_error_code for each in result.topic_results[0].results_by_partition]

    assert ask(producer.transactional_id, verify_only=True) == [ErrorCode.TRANSACTION_ABORTABLE] * 2
    assert ask(producer.transactional_id, verify_only=False) == [0, 0]
    assert ask(producer.transactional_id, verify_only=True) == [0, 0]
    assert ask("nobody", verify_only=False) == [ErrorCode.INVALID_PRODUCER_ID_MAPPING] * 2
    assert ask("", verify_only=False) == [ErrorCode.INVALID_REQUEST] * 2


def test_states_are_described_and_listed(client, topic, producer):
    """From the first use to the end."""
    name = producer.transactional_id
    assert describe(client, name).transaction_state == "Empty"
    producer.write(topic, 2, b"a")
    producer.write(topic, 0, b"a")
    state = describe(client, name)
    assert (state.transaction_state, state.producer_id, state.producer_epoch) == (
        "Ongoing",
        producer.producer_id,
        producer.epoch,
    )
    assert [(each.topic, each.partitions) for each in state.topics] == [(topic, [0, 2])]
    assert (state.transaction_timeout_ms, state.transaction_start_time_ms > 0) == (60_000, True)

    def listed(**filters):
        answer = client.call(ListTransactionsRequest(**filters), 1)
        return {each.transactional_id for each in answer.transaction_states}, answer.unknown_state_filters

    assert name in listed()[0]
    assert listed(state_filters=["Ongoing"], producer_id_filters=[producer.producer_id]) == ({name}, [])
    assert listed(state_filters=["Empty", "Odd"], producer_id_filters=[producer.producer_id]) == (
        set(),
        ["Odd"],
    )
    assert name not in listed(duration_filter=3_600_000)[0]
    assert name in listed(state_filters=["Ongoing"], duration_filter=0)[0]
    producer.finish(commit=False)
    wait_for_state(client, name, "CompleteAbort")
    assert describe(client, "nobody").error_code == ErrorCode.TRANSACTIONAL_ID_NOT_FOUND
    assert describe(client, "").error_code == ErrorCode.INVALID_REQUEST


def producers_of(client, topic, partition=0):
    (found,) = client.call(
        DescribeProducersRequest(
            topics=[DescribeProducersRequest.TopicRequest(name=topic, partition_indexes=[partition])]
        ),
        0,
    ).topics
    return found.partitions[0]


def test_producers_of_a_partition_are_described(client, topic, producer):
    """With the offset at which their transaction began."""
    producer.write(topic, 0, b"a", b"b")
    (found,) = producers_of(client, topic).active_producers
    assert (found.producer_id, found.producer_epoch, found.last_sequence, found.current_txn_start_offset) == (
        producer.producer_id,
        producer.epoch,
        1,
        0,
    )
    assert found.coordinator_epoch == -1
    producer.finish(commit=True)
    wait_until(lambda: producers_of(client, topic).active_producers[0].current_txn_start_offset == -1)
    assert producers_of(client, topic).active_producers[0].coordinator_epoch >= 0
    assert producers_of(client, topic, 7).error_code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert producers_of(client, "a b").error_code == ErrorCode.INVALID_TOPIC_EXCEPTION


def marker(producer, topic, partitions, *, commit=False, epoch=None, coordinator_epoch=0, version=0):
    return WriteTxnMarkersRequest(
        markers=[
            WriteTxnMarkersRequest.WritableTxnMarker(
                producer_id=producer.producer_id,
                producer_epoch=producer.epoch if epoch is None else epoch,
                transaction_result=commit,
                coordinator_epoch=coordinator_epoch,
                transaction_version=version,
                topics=[
                    WriteTxnMarkersRequest.WritableTxnMarkerTopic(name=topic, partition_indexes=partitions)
                ],
            )
        ]
    )


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_transaction_that_hangs_can_be_ended(client, topic, producer, version):
    """As `kafka-transactions.sh abort` does it: by a marker of the leader's own."""
    producer.write(topic, 0, b"a")
    (result,) = client.call(marker(producer, topic, [0, 8]), version).markers
    codes = {each.partition_index: each.error_code for each in result.topics[0].partitions}
    assert codes == {0: 0, 8: ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
    assert last_stable_offset(client, topic) == 2
    assert read(client, topic) == []


def test_a_marker_of_a_fenced_epoch_is_refused(client, topic, producer):
    """In version 2 an epoch that is still in use is stale, too."""
    producer.write(topic, 0, b"a")

    def write(**fields):
        (result,) = client.call(marker(producer, topic, [0], **fields), 2).markers
        return result.topics[0].partitions[0].error_code

    assert write(epoch=producer.epoch - 1 if producer.epoch else -1) == ErrorCode.INVALID_PRODUCER_EPOCH
    assert write(version=2) == ErrorCode.INVALID_PRODUCER_EPOCH
    assert last_stable_offset(client, topic) == 0
    assert write(epoch=producer.epoch + 1, version=2, coordinator_epoch=5) == 0
    assert (
        write(epoch=producer.epoch + 1, version=2, coordinator_epoch=4)
        == ErrorCode.TRANSACTION_COORDINATOR_FENCED
    )


def test_a_topic_that_is_deleted_does_not_hold_up_its_transaction(client, topic, producer):
    """The others get their markers."""
    gone = create_topic(client, f"{topic}-gone")
    producer.write(topic, 0, b"a")
    producer.write(gone, 0, b"b")
    answer = client.call(DeleteTopicsRequest(topic_names=[gone], timeout_ms=10_000), 5)
    assert answer.responses[0].error_code == 0
    producer.finish(commit=True)
    wait_for_state(client, producer.transactional_id, "CompleteCommit")
    assert read(client, topic) == [b"a"]


def test_batches_without_a_transaction(client, topic, producer):
    """May not come between those of one; a batch of a transaction needs its name."""
    answer = producer.produce(topic, 0, b"a", transactional=False)
    assert answer.error_code == 0
    producer.write(topic, 1, b"a")
    answer = producer.produce(topic, 1, b"b", transactional=False)
    assert answer.error_code == ErrorCode.INVALID_TXN_STATE
    request = producer.produce_request(topic, 2, [b"c"])
    request.transactional_id = None
    answer = client.call(request, 9).responses[0].partition_responses[0]
    assert answer.error_code == ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    producer.finish(commit=True)


def test_transactions_that_take_too_long_are_aborted(tmp_path):
    """And what their producer still asks for is refused: the coordinator is one epoch ahead, as after an abort of its own."""
    settings = {"transaction.abort.timed.out.transaction.cleanup.interval.ms": "20"}
    with BrokerProcess(tmp_path, settings=settings) as broker, WireClient(broker.bootstrap_server) as client:
        create_topic(client, "t")
        producer = TransactionalProducer(client, "x").start(timeout_ms=200)
        producer.write("t", 0, b"a")
        patient = TransactionalProducer(client, "y").start()
        patient.write("t", 0, b"b")
        wait_for_state(client, "x", "CompleteAbort")
        assert producer.produce("t", 0, b"c").error_code == ErrorCode.INVALID_PRODUCER_EPOCH
        assert producer.end(commit=True).error_code == ErrorCode.INVALID_TXN_STATE
        patient.finish(commit=True)
        wait_until(lambda: read(client, "t") == [b"b"])


def test_ids_that_nobody_uses_are_forgotten(tmp_path):
    """Not those in a transaction; and not before their time."""
    settings = {
        "transactional.id.expiration.ms": "1",
        "transaction.remove.expired.transaction.cleanup.interval.ms": "50",
    }
    with BrokerProcess(tmp_path, settings=settings) as broker, WireClient(broker.bootstrap_server) as client:
        create_topic(client, "t")
        open_one = TransactionalProducer(client, "open").start()
        call_until(lambda: open_one.produce("t", 0, b"a"), lambda answer: answer.error_code)
        for number in range(3):
            TransactionalProducer(client, f"idle-{number}").start()
        wait_until(
            lambda: (
                {
                    each.transactional_id
                    for each in client.call(ListTransactionsRequest(), 0).transaction_states
                }
                == {"open"}
            )
        )
        broker.kill()
        broker.start()
        with WireClient(broker.bootstrap_server) as again:
            listed = call_until(
                lambda: again.call(ListTransactionsRequest(), 0), lambda answer: answer.error_code
            )
            assert [each.transactional_id for each in listed.transaction_states] == ["open"]
