"""The connection to another broker, against a server on a real socket."""

from __future__ import annotations

import asyncio
import os
import struct
from collections import deque

import pytest

from barnabas.client.broker_connection import ClientLimits, connect
from barnabas.clock import SystemClock
from barnabas.errors import ErrorCode, KafkaError
from barnabas.metrics import Registry
from barnabas.network.endpoints import Endpoint
from barnabas.network.limits import NetworkLimits
from barnabas.network.parked import Parked
from barnabas.network.socket_server import SocketServer
from barnabas.wire.apis import APIS
from barnabas.wire.headers import decode_request_header, encode_response_header
from barnabas.wire.messages.api_versions import ApiVersionsResponse
from barnabas.wire.messages.fetch import FetchRequest, FetchResponse
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.metadata import MetadataRequest, MetadataResponse
from tests.event_loops import eventually

API_VERSIONS, FETCH, METADATA = 18, 1, 3


class PlayedBroker:
    """Answers ApiVersions, Metadata and Fetch, as the test wants."""

    def __init__(self, loop):
        self.loop = loop
        self.ranges = {API_VERSIONS: (0, 4), METADATA: (0, 9), FETCH: (4, 12)}
        self.headers = []
        self.software = []
        self.parked = []
        self.is_silent = False
        self.raw_answer = None
        self.records = b""
        self.one_by_one = deque()
        clock = SystemClock()
        self.server = SocketServer(
            loop=loop, clock=clock, limits=NetworkLimits(), dispatch=self.dispatch, metrics=Registry(clock)
        )
        self.server.open([Endpoint("PLAINTEXT", "127.0.0.1", 0, "PLAINTEXT")])
        self.server.start()

    @property
    def port(self):
        return self.server.addresses["PLAINTEXT"][1]

    def dispatch(self, context, frame):
        header, position = decode_request_header(frame)
        self.headers.append(header)
        lowest, highest = self.ranges[header.api_key]
        head = encode_response_header(header.api_key, header.api_version, header.correlation_id)
        if header.api_key == API_VERSIONS:
            api_keys = [
                ApiVersionsResponse.ApiVersion(api_key=key, min_version=low, max_version=high)
                for key, (low, high) in self.ranges.items()
            ]
            if not lowest <= header.api_version <= highest:
                return head + ApiVersionsResponse(
                    error_code=int(ErrorCode.UNSUPPORTED_VERSION), api_keys=api_keys
                ).encode(0)
            request = APIS[API_VERSIONS].request_class.decode(frame, header.api_version, position)
            self.software.append((request.client_software_name, request.client_software_version))
            return head + ApiVersionsResponse(api_keys=api_keys).encode(header.api_version)
        if self.raw_answer is not None:
            return self.raw_answer
        if self.is_silent:
            future = self.loop.create_future()
            self.parked.append(future)
            return Parked(future, lambda future: future.result(), lambda: future.set_result(None))
        if header.api_key == FETCH:
            records = self.one_by_one.popleft() if self.one_by_one else self.records
            response = FetchResponse(
                responses=[
                    FetchResponse.FetchableTopicResponse(
                        topic="t",
                        partitions=[
                            FetchResponse.PartitionData(partition_index=0, high_watermark=1, records=records)
                        ],
                    )
                ]
            )
            return [head, *response.encode_chunks(header.api_version)]
        request = MetadataRequest.decode(frame, header.api_version, position)
        response = MetadataResponse(
            topics=[
                MetadataResponse.MetadataResponseTopic(name=topic.name, error_code=3)
                for topic in request.topics or []
            ],
        )
        return head + response.encode(header.api_version)

    async def connect(self, **limits):
        return await connect("127.0.0.1", self.port, client_id="me", limits=ClientLimits(**limits))


@pytest.fixture
def played(loop):
    played = PlayedBroker(loop)
    yield played
    loop.run_until_complete(played.server.stop(0))


def metadata(name="events"):
    return MetadataRequest(topics=[MetadataRequest.MetadataRequestTopic(name=name)])


async def test_versions_are_negotiated(played, loop):
    """Connecting asks for the other side's versions; requests go out in the highest that both know."""
    async with await played.connect() as connection:
        assert connection.versions.ranges == played.ranges
        await connection.send(metadata())
        await connection.send(metadata(), version=4)
    assert [(header.api_key, header.api_version) for header in played.headers] == [
        (API_VERSIONS, APIS[API_VERSIONS].max_version),
        (METADATA, 9),
        (METADATA, 4),
    ]
    assert {header.client_id for header in played.headers} == {"me"}
    assert played.software[0][0] == "barnabas-broker"


async def test_a_side_with_older_api_versions(played, loop):
    """A broker that does not know our version of ApiVersions is asked again in its own (KIP-511)."""
    played.ranges[API_VERSIONS] = (0, 2)
    async with await played.connect() as connection:
        assert connection.versions.ranges == played.ranges
    assert [header.api_version for header in played.headers] == [APIS[API_VERSIONS].max_version, 2]


async def test_answers_find_their_requests(played, loop):
    """Many requests under way at once each get their own answer."""
    async with await played.connect() as connection:
        futures = [connection.send(metadata(f"topic-{number}")) for number in range(50)]
        assert connection.in_flight_count == 50
        for number, response in enumerate(await asyncio.gather(*futures)):
            assert response.topics[0].name == f"topic-{number}"
        assert connection.in_flight_count == 0


async def test_records_stay_valid(played, loop):
    """The records of an answer are a view that lives as long as somebody holds it."""
    played.records = first_records = os.urandom(3_000_000)
    async with await played.connect() as connection:
        first = await connection.send(FetchRequest())
        played.records = os.urandom(3_000_000)
        second = await connection.send(FetchRequest())
    assert bytes(first.responses[0].partitions[0].records) == first_records
    assert bytes(second.responses[0].partitions[0].records) == played.records


async def test_answers_of_any_size_come_whole(played, loop):
    """Many small ones by one read of the socket, one by many reads, and what lies just around the size of the input."""
    sizes = [0, 1, 100, 16_000, *range(16_250, 16_400), 70_000, 3, 1_000_000, *[50] * 1000, 40_000, 7]
    sent = [os.urandom(size) for size in sizes]
    played.one_by_one.extend(sent)
    async with await played.connect(requests_in_flight_max=len(sizes)) as connection:
        for records, future in [(records, connection.send(FetchRequest())) for records in sent]:
            response = await future
            assert bytes(response.responses[0].partitions[0].records) == records


async def test_a_late_answer_closes_the_connection(played, loop):
    """A request without an answer in its time fails with REQUEST_TIMED_OUT, the others under way with NETWORK_EXCEPTION."""
    played.is_silent = True
    connection = await played.connect()
    patient = connection.send(metadata())
    hurried = connection.send(metadata(), timeout_ms=20)
    with pytest.raises(KafkaError, match="did not answer Metadata within 20 ms") as caught:
        await hurried
    assert caught.value.code is ErrorCode.REQUEST_TIMED_OUT
    with pytest.raises(KafkaError) as caught:
        await patient
    assert caught.value.code is ErrorCode.NETWORK_EXCEPTION
    assert not connection.is_open
    with pytest.raises(KafkaError, match="is closed"):
        connection.send(metadata())
    await connection.wait_closed()


async def test_an_answer_in_time_stops_its_clock(played, loop):
    """The time of a request that was answered closes nothing later."""
    async with await played.connect() as connection:
        await connection.send(metadata(), timeout_ms=250)
        end = loop.time() + 0.3
        await eventually(lambda: loop.time() > end)
        assert connection.is_open


async def test_a_lost_connection_fails_what_is_under_way(played, loop):
    """When the other side goes, requests under way fail with NETWORK_EXCEPTION."""
    played.is_silent = True
    connection = await played.connect()
    future = connection.send(metadata())
    await eventually(lambda: played.parked)
    await played.server.stop(0)
    with pytest.raises(KafkaError, match=r"127\.0\.0\.1:\d+ ended the connection|was lost") as caught:
        await future
    assert caught.value.code is ErrorCode.NETWORK_EXCEPTION
    await connection.wait_closed()
    assert not connection.is_open


async def test_closing_fails_what_is_under_way(played, loop):
    """The owner may close at any time, more than once."""
    played.is_silent = True
    connection = await played.connect()
    future = connection.send(metadata())
    connection.close()
    connection.close()
    with pytest.raises(KafkaError, match="was closed"):
        await future
    await connection.wait_closed()


async def test_a_cancelled_request_harms_nobody(played, loop):
    """Who no longer waits for an answer does not disturb those who do."""
    async with await played.connect() as connection:
        first, second = connection.send(metadata("first")), connection.send(metadata("second"))
        first.cancel()
        assert (await second).topics[0].name == "second"


async def test_requests_in_flight_are_limited(played, loop):
    """One request too many is refused at once."""
    played.is_silent = True
    connection = await played.connect(requests_in_flight_max=2)
    futures = [connection.send(metadata()) for _ in range(2)]
    with pytest.raises(KafkaError, match=r"2 requests to .* wait for their answers already"):
        connection.send(metadata())
    connection.close()
    await asyncio.gather(*futures, return_exceptions=True)
    await connection.wait_closed()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "an answer cannot be 0 bytes long"),
        (b"\x00\x00", "does not parse"),
        (struct.pack(">i", 77) + b"\x00" * 20, "the answer to request 77 came in place of that to 1"),
        (struct.pack(">i", 1) + b"\x00\xff\xff", "sent nonsense"),
        (b"x" * 10_001, "an answer cannot be 10001 bytes long"),
    ],
)
async def test_nonsense_closes_the_connection(played, loop, answer, message):
    """An answer that does not parse, is too long or belongs to no request fails what is under way."""
    connection = await played.connect(response_bytes_max=10_000)
    played.raw_answer = answer
    futures = [connection.send(metadata()) for _ in range(2)]
    for future in futures:
        with pytest.raises(KafkaError, match=message) as caught:
            await future
        assert caught.value.code is ErrorCode.NETWORK_EXCEPTION
    await connection.wait_closed()


async def test_an_api_that_is_not_served(played, loop):
    """A request that the other side does not know is refused before it is sent."""
    async with await played.connect() as connection:
        with pytest.raises(KafkaError, match="FindCoordinator is not served") as caught:
            connection.send(FindCoordinatorRequest())
        assert caught.value.code is ErrorCode.UNSUPPORTED_VERSION
        with pytest.raises(KafkaError, match="Metadata version 12 is not served"):
            connection.send(metadata(), version=12)


async def test_nobody_there(loop):
    """A port that nobody listens on is NETWORK_EXCEPTION with the address."""
    with pytest.raises(KafkaError, match=r"cannot connect to 127\.0\.0\.1:1") as caught:
        await connect("127.0.0.1", 1, client_id="me")
    assert caught.value.code is ErrorCode.NETWORK_EXCEPTION


async def test_somebody_silent(played, loop):
    """A peer that takes the connection and says nothing is given up after the time to connect."""
    played.server.dispatch = lambda *_: None
    with pytest.raises(KafkaError, match="did not answer within 50 ms") as caught:
        await played.connect(connect_timeout_ms=50)
    assert caught.value.code is ErrorCode.NETWORK_EXCEPTION
    await eventually(lambda: played.server.connection_count == 0)
