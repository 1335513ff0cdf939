"""What all generated messages promise."""

from __future__ import annotations

import pytest

from barnabas.errors import DecodeError, EncodeError
from barnabas.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.describe_cluster import DescribeClusterRequest
from barnabas.wire.messages.describe_topic_partitions import DescribeTopicPartitionsRequest
from barnabas.wire.messages.fetch import FetchRequest, FetchResponse
from barnabas.wire.messages.group.consumer_group_member_metadata_value import ConsumerGroupMemberMetadataValue
from barnabas.wire.messages.group.offset_commit_key import OffsetCommitKey
from barnabas.wire.messages.heartbeat import HeartbeatRequest
from barnabas.wire.messages.metadata import MetadataRequest
from barnabas.wire.messages.metadata.topic_record import TopicRecord
from barnabas.wire.messages.produce import ProduceRequest, ProduceResponse


class Region:
    """File bytes, as the log hands them out."""

    def __init__(self, data):
        self.data = data
        self.size = len(data)

    def read(self):
        return self.data

    def send_to(self, socket_fd, offset, count):
        raise NotImplementedError

    def release(self):
        pass


def test_defaults_are_the_schemas():
    """A message made without arguments has the schema's defaults."""
    request = FetchRequest()
    assert (request.max_bytes, request.session_epoch, request.topics) == (0x7FFFFFFF, -1, [])
    assert CreateTopicsRequest().timeout_ms == 60_000
    assert MetadataRequest().allow_auto_topic_creation is True
    assert ProduceRequest().transactional_id is None


def test_lists_are_not_shared():
    """Two messages made without arguments do not share their lists."""
    FetchRequest().topics.append(FetchRequest.FetchTopic())
    assert FetchRequest().topics == []


def test_equality_is_by_fields():
    """Messages are equal when their fields are; other types are never equal, and messages cannot be keys."""
    assert HeartbeatRequest(group_id="g") == HeartbeatRequest(group_id="g")
    assert HeartbeatRequest(group_id="g") != HeartbeatRequest(group_id="h")
    assert HeartbeatRequest() != "HeartbeatRequest"
    with pytest.raises(TypeError):
        hash(HeartbeatRequest())


def test_repr_shows_the_fields_and_the_size_of_long_bytes():
    """A message prints as it would be constructed; bytes in bulk print as their size."""
    partition = ProduceRequest.PartitionProduceData(index=3, records=memoryview(bytes(100)))
    assert repr(partition) == "ProduceRequest.PartitionProduceData(index=3, records=<100 bytes>)"
    partition.records = memoryview(b"ab")
    assert repr(partition) == "ProduceRequest.PartitionProduceData(index=3, records=b'ab')"


def test_unknown_versions_are_refused():
    """A version below or above all that the class knows is no message."""
    for version in (-1, 5):
        with pytest.raises(DecodeError, match=f"HeartbeatRequest has no version {version}"):
            HeartbeatRequest.decode(b"", version)
        with pytest.raises(EncodeError, match=f"HeartbeatRequest has no version {version}"):
            HeartbeatRequest().encode(version)


def test_what_a_version_cannot_say_is_an_error():
    """A field that the version lacks must have its default."""
    with pytest.raises(EncodeError, match="HeartbeatRequest version 2: it has no group_instance_id"):
        HeartbeatRequest(group_instance_id="i").encode(2)
    assert HeartbeatRequest(group_instance_id="i").encode(3)


def test_what_may_be_ignored_is_dropped():
    """An ignorable field that the version lacks is left out in silence."""
    assert ProduceResponse(throttle_time_ms=5).encode(0) == ProduceResponse().encode(0)


@pytest.mark.parametrize(
    "message",
    [
        HeartbeatRequest(group_id=None),
        HeartbeatRequest(generation_id=2**31),
        HeartbeatRequest(generation_id="1"),
        HeartbeatRequest(group_id="x" * 32_768),
        HeartbeatRequest(group_id="\ud800"),
        HeartbeatRequest(group_id=7),
    ],
)
@pytest.mark.parametrize("version", [0, 4])
def test_values_of_the_wrong_kind_are_encode_errors(message, version):
    """None where null is not allowed, numbers out of range, strings too long or not UTF-8: EncodeError."""
    with pytest.raises(EncodeError):
        message.encode(version)


def test_the_longest_string_is_still_sent():
    """A string may have 32,767 bytes."""
    for version in (0, 4):
        data = HeartbeatRequest(group_id="x" * 32_767).encode(version)
        assert HeartbeatRequest.decode(data, version).group_id == "x" * 32_767


def test_a_string_longer_than_kafka_takes_is_refused():
    """A compact string of more than 32,767 bytes is not read, though the buffer has them."""
    with pytest.raises(DecodeError, match="too long"):
        HeartbeatRequest.decode(b"\x81\x80\x02" + b"x" * 40_000, 4)


def test_null_for_what_cannot_be_null_is_refused():
    """A null string, array or bytes is only read where the version allows it."""
    with pytest.raises(DecodeError, match="null"):
        HeartbeatRequest.decode(b"\x00" + bytes(20), 4)
    with pytest.raises(DecodeError, match="null"):
        MetadataRequest.decode(b"\xff\xff\xff\xff", 0)
    assert MetadataRequest.decode(b"\xff\xff\xff\xff", 1).topics is None
    with pytest.raises(EncodeError, match="topics is null"):
        MetadataRequest(topics=None).encode(0)


def test_a_uuid_has_sixteen_bytes():
    """A uuid of another size is not padded or cut."""
    for uuid in (b"", bytes(15), bytes(17)):
        with pytest.raises(EncodeError, match="16 bytes"):
            TopicRecord(topic_id=uuid).encode(0)


def test_a_string_that_is_not_utf_8_is_refused():
    """Kafka replaces such characters; a name that does not come back as it went is worse than an error."""
    with pytest.raises(DecodeError, match="UTF-8"):
        OffsetCommitKey.decode(b"\x00\x01\xff\x00\x00" + bytes(4), 0)


def test_unknown_tagged_fields_are_dropped():
    """A tag that we do not know is skipped; what stands around it is read."""
    data = b"\x00\x03\x05\x02ab\x81\x01\x00\x07\x01z"
    assert DescribeClusterRequest.decode_at(data, 0, 0) == (DescribeClusterRequest(), len(data))
    request = ApiVersionsRequest(client_software_name="n", client_software_version="v")
    assert ApiVersionsRequest.decode(b"\x02n\x02v\x01\x00\x03abc", 3) == request


def test_a_known_tag_must_have_the_size_that_it_says():
    """A tagged field that is shorter or longer than its size is refused."""
    response = ApiVersionsResponse(finalized_features_epoch=5)
    data = response.encode(3)
    assert data.endswith(b"\x01\x01\x08" + (5).to_bytes(8, "big"))
    with pytest.raises(DecodeError, match="another size"):
        ApiVersionsResponse.decode(data[:-9] + b"\x09" + data[-8:] + b"\x00", 3)


def test_tags_are_written_in_order_and_only_when_they_say_something():
    """Tagged fields stand by tag, whatever the order in the schema, and defaults are left out."""
    response = ApiVersionsResponse(zk_migration_ready=True, finalized_features_epoch=5)
    assert response.encode(3).endswith(b"\x02\x01\x08" + (5).to_bytes(8, "big") + b"\x03\x01\x01")
    assert ApiVersionsResponse().encode(3).endswith(b"\x00")


def test_a_tagged_struct_that_is_absent_is_none():
    """None stands for the default of a tagged struct; the default itself is not sent either."""
    partition = FetchResponse.PartitionData()
    assert partition.current_leader is None
    response = FetchResponse(responses=[FetchResponse.FetchableTopicResponse(partitions=[partition])])
    bare = response.encode(12)
    partition.current_leader = FetchResponse.LeaderIdAndEpoch()
    assert response.encode(12) == bare
    partition.current_leader.leader_id = 4
    decoded = FetchResponse.decode(response.encode(12), 12)
    assert decoded.responses[0].partitions[0].current_leader == partition.current_leader


def test_a_nullable_struct_has_a_marker():
    """A struct that may be null begins with -1 or 1."""
    request = DescribeTopicPartitionsRequest()
    assert request.encode(0)[-2:] == b"\xff\x00"
    request.cursor = DescribeTopicPartitionsRequest.Cursor(topic_name="t", partition_index=3)
    assert DescribeTopicPartitionsRequest.decode(request.encode(0), 0) == request


def test_a_nullable_tagged_struct_can_be_null_or_default():
    """Kafka's default of such a field is the empty struct, and null is sent as a tag."""
    value = ConsumerGroupMemberMetadataValue()
    assert value.classic_member_metadata == ConsumerGroupMemberMetadataValue.ClassicMemberMetadata()
    assert value.encode(0)[-1:] == b"\x00"
    value.classic_member_metadata = None
    assert value.encode(0)[-4:] == b"\x01\x00\x01\x00"
    assert ConsumerGroupMemberMetadataValue.decode(value.encode(0), 0) == value


def _produced(records):
    partition = ProduceRequest.PartitionProduceData(index=1, records=records)
    return ProduceRequest(topic_data=[ProduceRequest.TopicProduceData(name="t", partition_data=[partition])])


@pytest.mark.parametrize("version", [3, 9])
def test_records_are_a_view_of_the_input(version):
    """Decoding does not copy records."""
    buffer = bytearray(_produced(b"records").encode(version))
    records = ProduceRequest.decode(memoryview(buffer), version).topic_data[0].partition_data[0].records
    assert isinstance(records, memoryview)
    buffer[buffer.index(b"records")] = ord("R")
    assert records == b"Records"


@pytest.mark.parametrize("version", [3, 9])
def test_records_may_be_anything_that_has_bytes(version):
    """Bytes, bytearray, memoryview, a file region and lists of them have the same encoding."""
    data = _produced(b"records").encode(version)
    parts = [b"re", [bytearray(b"co"), None], memoryview(b"r"), Region(b"ds"), []]
    for records in (bytearray(b"records"), memoryview(b"records"), Region(b"records"), parts):
        assert _produced(records).encode(version) == data


@pytest.mark.parametrize("version", [4, 12])
def test_file_regions_stay_chunks_of_their_own(version):
    """A response with records in a file is bytes, the region, bytes; small records in memory join the bytes."""
    region = Region(b"x" * 1000)
    response = FetchResponse()
    for records in (region, b"abc", None):
        partition = FetchResponse.PartitionData(records=records)
        response.responses.append(FetchResponse.FetchableTopicResponse(topic="t", partitions=[partition]))
    chunks = response.encode_chunks(version)
    assert [type(chunk) for chunk in chunks] == [bytes, Region, bytes]
    assert chunks[1] is region
    assert chunks[0] + region.read() + chunks[2] == response.encode(version)
