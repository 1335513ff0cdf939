"""Records of `__consumer_offsets` that are old, foreign or damaged. That they are Kafka's own is tested against Kafka."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barnabas.coordinators.group.offsets import CommittedOffset
from barnabas.coordinators.group.records import (
    OffsetRecordWriter,
    decode_key,
    decode_value,
    group_tombstone,
    offset_tombstone,
)
from barnabas.errors import DecodeError
from barnabas.wire.messages.group.group_metadata_value import GroupMetadataValue
from barnabas.wire.messages.group.offset_commit_value import OffsetCommitValue
from tests.coordinators.group.conversation import Coordinator, fetched

OFFSETS = st.builds(
    CommittedOffset,
    offset=st.integers(-(2**63), 2**63 - 1),
    leader_epoch=st.integers(-1, 2**31 - 1),
    metadata=st.text(max_size=5),
    commit_timestamp_ms=st.integers(0, 2**63 - 1),
    expire_timestamp_ms=st.none() | st.integers(0, 2**63 - 1),
    topic_id=st.sampled_from([bytes(16), b"t" * 16]),
    record_offset=st.just(-1),
)


def test_keys_begin_with_their_type():
    """To the byte."""
    assert group_tombstone("g") == (b"\x00\x02\x00\x01g", None)
    assert offset_tombstone("g", "t", 3) == (b"\x00\x01\x00\x01g\x00\x01t\x00\x00\x00\x03", None)


def test_an_offset_is_written_to_the_byte():
    """Version 4 of the value, with the topic's id as a tagged field."""
    offset = CommittedOffset(5, 0, "", 1795381770048, None, b"0123456789abcdef")
    _, value = OffsetRecordWriter("g1", "t").record(0, offset)
    assert value == (
        b"\x00\x04\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x01\x00\x00\x01\xa2\x05\x17\xb7@"
        b"\x01\x00\x100123456789abcdef"
    )


@given(st.lists(st.tuples(st.integers(0, 2**31 - 1), OFFSETS), max_size=8))
def test_offsets_are_read_as_they_were_written(offsets):
    """Also when records of one commit share most of their bytes."""
    writer = OffsetRecordWriter("group", "topic")
    for partition, offset in offsets:
        key, value = writer.record(partition, offset)
        parsed = decode_key(key).key
        assert (parsed.group, parsed.topic, parsed.partition) == ("group", "topic", partition)
        expected = offset
        if offset.expire_timestamp_ms is not None:
            # The only version with an expiry time has no room for these.
            expected = offset._replace(leader_epoch=-1, topic_id=bytes(16))
        assert CommittedOffset.of(decode_value(value, OffsetCommitValue), -1) == expected


def test_the_oldest_keys_are_offsets_too():
    """Type 0, from before 0.8.2."""
    coordinator = Coordinator()
    key = b"\x00\x00" + offset_tombstone("orders", "t", 1)[0][2:]
    value = b"\x00\x00" + OffsetCommitValue(offset=9, commit_timestamp=5).encode(0)
    coordinator.shard.replay(0, -1, -1, key, value)
    assert fetched(coordinator) == {("t", 1): 9}
    coordinator.shard.replay(1, -1, -1, key, None)
    assert fetched(coordinator) == {}


@pytest.mark.parametrize("version", range(5))
def test_groups_of_all_versions_are_read(version):
    """From version 0, without rebalance time-out, on; a member's session timeout stands for it."""
    member = GroupMetadataValue.MemberMetadata(
        member_id="m", client_id="c", client_host="/1.2.3.4", session_timeout=7_000, subscription=b"s"
    )
    value = GroupMetadataValue(
        protocol_type="consumer", generation=3, protocol="range", leader="m", members=[member]
    )
    coordinator = Coordinator()
    encoded = version.to_bytes(2) + value.encode(version)
    coordinator.shard.replay(0, -1, -1, group_tombstone("orders")[0], encoded)
    group = coordinator.group()
    assert (group.state.value, group.generation_id, group.leader_id) == ("Stable", 3, "m")
    assert group.members["m"].rebalance_timeout_ms == 7_000
    assert group.rebalance_timeout_ms == 7_000


def test_a_leader_that_is_no_member_is_not_believed():
    """Somebody who is there leads."""
    member = GroupMetadataValue.MemberMetadata(member_id="m", session_timeout=7_000)
    value = GroupMetadataValue(
        protocol_type="consumer", generation=3, protocol="range", leader="gone", members=[member]
    )
    coordinator = Coordinator()
    coordinator.shard.replay(0, -1, -1, group_tombstone("orders")[0], b"\x00\x03" + value.encode(3))
    assert coordinator.group().leader_id == "m"


@pytest.mark.parametrize(
    "key", [b"", b"\x00", b"\x00\x01", b"\x00\x02\x00\x05ab", b"\x00\x01\x00\x01g\x00\x09t"]
)
def test_keys_that_are_none_are_refused(key):
    """Cut off, or with lengths that lie."""
    with pytest.raises(DecodeError):
        decode_key(key)


@pytest.mark.parametrize(
    "value", [b"", b"\x00", b"\x00\x05", b"\xff\xff", b"\x00\x04\x00", b"\x00\x00\x00\x00"]
)
@pytest.mark.parametrize("message", [OffsetCommitValue, GroupMetadataValue])
def test_values_that_are_none_are_refused(value, message):
    """Cut off, or of a version that does not exist yet."""
    with pytest.raises(DecodeError):
        decode_value(value, message)


def test_records_of_other_groups_are_passed_over(caplog):
    """Types that belong to share and streams groups, or to a newer Kafka; said once each."""
    coordinator = Coordinator()
    for number in (10, 10, 99):
        coordinator.shard.replay(0, -1, -1, number.to_bytes(2) + b"whatever", b"\x00\x00")
    lines = [record.getMessage() for record in caplog.records if "passed over" in record.getMessage()]
    assert len(lines) == 2
    assert coordinator.shard.groups == {}
