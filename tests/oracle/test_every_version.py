"""Every API in every version, asked of Apache Kafka and of us: for nothing, for what nobody has, and in bytes that do not fit.

The other tests here know what they ask for; this one leaves nothing out.
"""

from __future__ import annotations

import sys
import typing

import pytest

from barnabas.handlers.registry import HANDLERS
from barnabas.records.builder import build_batch
from barnabas.wire.apis import APIS
from barnabas.wire.headers import decode_response_header
from barnabas.wire.messages.api_versions import ApiVersionsRequest
from barnabas.wire.messages.find_coordinator import FindCoordinatorRequest
from barnabas.wire.messages.init_producer_id import InitProducerIdRequest
from tests.broker_process import BrokerProcess, wait_until
from tests.oracle.admin_pair import SETTINGS, without
from tests.oracle.building import build, fitted
from tests.oracle.kafka_broker import kafka_broker
from tests.oracle.likeness import Likeness, differences
from tests.wire_client import WireClient
from tools.kafka_apis import ANNOUNCED

pytestmark = [pytest.mark.oracle, pytest.mark.timeout(300)]

PATIENCE_S = 30
SILENCE_S = 3
TIMEOUT_MS = 30_000

NOTHING = "nothing"
"""All fields have their defaults. In the other kinds all have these values, and each array has one element."""
KINDS = {
    NOTHING: None,
    "zeros": {int: 0, float: 0.0, bool: False, str: "nobody", bytes: bytes(16)},
    "sevens": {int: 7, float: 7.5, bool: True, str: "nobody", bytes: b"0123456789abcdef"},
    "twos": {int: 2, float: 2.5, bool: True, str: "2", bytes: b"2" * 16},
    "less than nothing": {int: -1, float: -1.0, bool: False, str: "", bytes: bytes(15) + b"\7"},
    "odd names": {int: 32767, float: 1e300, bool: True, str: "a b/\u20ac", bytes: b"\xff" * 16},
}
TIMES = ("timeout_ms", "max_wait_ms")
"""Fields that are not what the test is about: Kafka may say REQUEST_TIMED_OUT before it has begun."""

SHARE_WORDS = "of share groups, whose absence we explain"
DIFFERENT: dict[tuple[str, str], str] = {
    ("AddPartitionsToTxn", NOTHING): "from version 4 on Kafka never answers a request for no transaction",
    ("FindCoordinator", "twos"): SHARE_WORDS,
}
"""API and kind of body that are answered differently, as `tools.differences` tells."""
BUT = {
    "ApiVersions": ("api_keys", "finalized_features", "supported_features", "finalized_features_epoch"),
    # Names the id of the cluster.
    "AddRaftVoter": ("error_message",),
    "RemoveRaftVoter": ("error_message",),
}
"""Fields of answers that other tests look at, or that cannot be alike."""

SWEPT = [key for key in ANNOUNCED if key in HANDLERS]


def filled(struct: type, root: type, values):
    """A message with these values in all its fields, and one element in each array."""
    namespace = vars(sys.modules[root.__module__]) | {"Records": bytes}
    hints = typing.get_type_hints(struct.__init__, globalns=namespace) if struct.__slots__ else {}
    return struct(**{name: _value(name, hints[name], root, values) for name in struct.__slots__})


def _value(name: str, hint, root: type, values):
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    if typing.get_origin(hint) is list:
        return [_value(name, options[0], root, values)]
    if options:
        return _value(name, options[0], root, values)
    if name == "records":  # with others Kafka refuses the whole request before it looks where they are to go
        return build_batch([(0, 0, b"k", b"v", ())])
    return values[hint] if hint in values else filled(hint, root, values)


def body(cls: type, version: int, kind: str) -> bytes | None:
    """The bytes of a request, or None where the version cannot say it."""
    values = KINDS[kind]
    message = cls() if values is None else filled(cls, cls, values)
    for name in TIMES:
        if hasattr(message, name):
            setattr(message, name, TIMEOUT_MS if name == "timeout_ms" else 0)
    message = fitted(message, version)
    return None if message is None else message.encode(version)


def reaction(address: str, plain: Likeness, key: int, version: int, data: bytes):
    """The answer to a request, or what else happens to its connection."""
    with WireClient(address, timeout_s=PATIENCE_S) as client:
        asked = client.send_raw(key, version, data)
        then = client.send(ApiVersionsRequest(), 0)
        client.socket.settimeout(SILENCE_S if (APIS[key].name, NOTHING) in DIFFERENT else PATIENCE_S)
        try:
            frame = client.receive_frame()
        except TimeoutError:
            return "holds the connection"
        except ConnectionError:
            return "closes the connection"
    if int.from_bytes(frame[:4], "big") == then:
        return "says nothing"
    found, position = decode_response_header(frame, key, version)
    assert found == asked
    return plain(APIS[key].response_class.decode(frame, version, position))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Addresses and likenesses, Kafka's first; their coordinators are ready."""
    directory = tmp_path_factory.mktemp("sweep")
    config = SETTINGS | {"transaction.state.log.num.partitions": "1"}
    with (
        BrokerProcess(directory / "barnabas", settings=config) as ours,
        kafka_broker(directory / "kafka", config=config) as kafka,
    ):
        addresses = (kafka.bootstrap, ours.bootstrap_server)
        for address in addresses:
            with WireClient(address) as client:
                _ready(client)
        yield [(address, Likeness()) for address in addresses]


def _ready(client: WireClient) -> None:
    for key_type in (0, 1):
        request = FindCoordinatorRequest(key="first", key_type=key_type)
        wait_until(lambda asked=request: not client.call(asked, 2).error_code, PATIENCE_S, "a coordinator")
    request = InitProducerIdRequest(transactional_id="first", transaction_timeout_ms=TIMEOUT_MS)
    wait_until(lambda: not client.call(request, 2).error_code, PATIENCE_S, "a coordinator that has loaded")


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        *[pytest.param(kind, bytes, id=kind) for kind in KINDS],
        pytest.param("sevens", lambda data: data[: len(data) // 2], id="cut"),
        pytest.param("sevens", lambda data: data + b"\7" * 9, id="longer"),
        pytest.param(NOTHING, lambda data: data[:-1], id="short of a byte"),
    ],
)
def test_every_api_answers_alike_in_every_version(both, kind, change):
    """Codes, words and shapes; and where one closes the connection, the other does."""
    found = []
    asked = 0
    for key in SWEPT:
        name = APIS[key].name
        if (name, kind) in DIFFERENT:
            continue
        for version in range(ANNOUNCED[key][0], ANNOUNCED[key][1] + 1):
            data = body(APIS[key].request_class, version, kind)
            if data is None:
                continue
            answers = [reaction(*side, key, version, change(data)) for side in both]
            asked += 1
            found += [
                f"{name} {version}{line}"
                for line in differences(*[without(answer, BUT.get(name, ())) for answer in answers])
            ]
    assert asked > len(SWEPT)
    assert not found, "\n".join(found)


def test_what_is_answered_differently_is(both):
    """Else it need not be left out."""
    for name, kind in DIFFERENT:
        (api,) = (api for api in APIS.values() if api.name == name)
        version = ANNOUNCED[api.key][1]
        data = body(api.request_class, version, kind)
        theirs, ours = (reaction(*side, api.key, version, data) for side in both)
        assert differences(theirs, ours), (name, kind)


def test_a_damaged_header_among_sound_batches(both):
    """Kafka refuses the whole request; we refuse the batch, and append the others."""
    name = "sound"
    topics = [{"name": name, "num_partitions": 2, "replication_factor": 1}]
    produce = next(api for api in APIS.values() if api.name == "Produce").request_class
    create = next(api for api in APIS.values() if api.name == "CreateTopics").request_class
    sound = build_batch([(0, 0, b"k", b"v", ())])
    codes = []
    for address, _ in both:
        with WireClient(address) as client:
            assert (
                client.call(build(create, topics=topics, timeout_ms=TIMEOUT_MS), 5).topics[0].error_code == 0
            )
            request = build(
                produce,
                acks=-1,
                timeout_ms=TIMEOUT_MS,
                topic_data=[
                    {
                        "name": name,
                        "partition_data": [
                            {"index": 0, "records": sound},
                            {"index": 1, "records": b"\xff" * 20},
                        ],
                    }
                ],
            )

            def produced(client=client, request=request):
                parts = client.call(request, 9).responses[0].partition_responses
                return {part.index: part.error_code for part in parts}

            wait_until(lambda ask=produced: 3 not in ask().values(), PATIENCE_S, "the topic")
            codes.append(produced())
    assert codes == [{0: 2, 1: 2}, {0: 0, 1: 2}]
