"""Frames that are wrong: what Apache Kafka does with them, we do, and nobody else notices."""

from __future__ import annotations

import os
import random
import socket
import struct

import pytest

from barnabas.metadata.features import INITIAL_FEATURES
from barnabas.wire.apis import APIS
from barnabas.wire.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from barnabas.wire.messages.metadata import MetadataRequest
from tests.oracle.conftest import differences
from tests.our_broker import one_address
from tests.wire_client import WireClient
from tools.differences import FEATURES

pytestmark = pytest.mark.oracle


def _frame(body: bytes, length: int | None = None) -> bytes:
    return struct.pack(">i", len(body) if length is None else length) + body


def _header(api_key, version, client_id=b"test"):
    return struct.pack(">hhih", api_key, version, 7, len(client_id)) + client_id


def _reaction(address: str, data: bytes) -> str:
    """ "closed", or "answered", or "waits" when nothing happens to a connection that sent `data`."""
    with WireClient(one_address(address), timeout_s=5) as client:
        client.socket.sendall(data)
        client.socket.settimeout(1.5)
        try:
            return "answered" if client.socket.recv(1) else "closed"
        except ConnectionResetError:
            return "closed"
        except TimeoutError:
            return "waits"


FRAMES = {
    "a negative length": struct.pack(">i", -5),
    "a length over the limit": struct.pack(">i", 104_857_601),
    "the greatest length": struct.pack(">i", 2**31 - 1),
    "a length within the limit and nothing more": struct.pack(">i", 1000) + b"abc",
    "an empty frame": struct.pack(">i", 0),
    "a frame of one byte": _frame(b"\0"),
    "an unknown API key": _frame(_header(999, 0)),
    "a negative API key": _frame(_header(-1, 0)),
    "an API that is not for clients": _frame(_header(4, 0) + bytes(64)),
    "a version that is too high": _frame(_header(3, 99) + bytes(16)),
    "a negative version": _frame(_header(3, -1) + bytes(16)),
    "a body that ends early": _frame(_header(3, 1) + b"\0"),
    "an array that claims too much": _frame(_header(3, 1) + struct.pack(">i", 2**31 - 1)),
    "an array of a negative size": _frame(_header(3, 1) + struct.pack(">i", -2)),
    "a string of a negative size": _frame(_header(3, 1) + struct.pack(">ih", 1, -2)),
    "an HTTP request": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a TLS hello": bytes.fromhex("1603010200010001fc0303") + bytes(600),
    "a Fetch version that is too low": _frame(_header(1, 3) + bytes(64)),
}


@pytest.mark.parametrize("flaw", FRAMES)
def test_a_bad_frame_is_met_alike(brokers, flaw):
    """A frame with a flaw closes its connection exactly where it does with Kafka."""
    theirs, ours = (_reaction(address, FRAMES[flaw]) for address in brokers)
    assert ours == theirs


@pytest.mark.parametrize("flaw", FRAMES)
def test_a_bad_frame_disturbs_nobody_else(brokers, flaw):
    """While one connection sends nonsense, another one's requests are answered."""
    with WireClient(one_address(brokers[1])) as client:
        _reaction(brokers[1], FRAMES[flaw])
        assert client.call(ApiVersionsRequest(), 0).error_code == 0


def test_an_unknown_version_of_api_versions_is_answered_in_version_0(pair):
    """A newer client learns in version 0 which versions there are (KIP-511)."""
    answers = []
    for client in (pair.kafka, pair.ours):
        client.send_raw(18, 77, b"\x02x\x02y\0", is_answered=False)
        frame = client.receive_frame()
        answers.append(ApiVersionsResponse.decode(frame, 0, 4))
    assert not differences(*answers)
    assert pair.ours.call(ApiVersionsRequest(), 0).error_code == 0


@pytest.mark.parametrize("version", [0, 1, 2])
def test_api_versions_need_no_body_in_old_versions(pair, version):
    """What we serve of Kafka's APIs we announce with Kafka's highest versions, and no API that Kafka has not."""
    theirs, ours = (
        {key.api_key: (key.min_version, key.max_version) for key in answer.api_keys}
        for answer in pair.ask(ApiVersionsRequest(), version)
    )
    for key, (_, highest) in ours.items():
        assert key in theirs, APIS[key].name
        assert highest == theirs[key][1], APIS[key].name


def test_feature_levels_differ_as_the_page_says(pair):
    """A new cluster of Kafka has the levels of `tools.differences.FEATURES`, and ours has none that Kafka has not."""
    theirs, ours = (
        {feature.name: feature.max_version_level for feature in answer.finalized_features}
        for answer in pair.until(
            lambda: pair.ask(ApiVersionsRequest(client_software_name="x", client_software_version="1"), 4),
            lambda answer: answer.finalized_features,
        )
    )
    assert theirs == FEATURES
    assert ours == INITIAL_FEATURES
    assert ours.items() <= theirs.items()


@pytest.mark.parametrize(
    ("name", "software_version"),
    [("kafka-python", "2.0"), ("", "1"), ("-x", "1"), ("x y", "1"), ("x", "1.0.0-rc1")],
)
def test_software_names_are_judged_alike(pair, name, software_version):
    """Only names of letters, digits, dots and dashes are taken (KIP-511)."""
    request = ApiVersionsRequest(client_software_name=name, client_software_version=software_version)
    theirs, ours = pair.ask(request, 3)
    assert ours.error_code == theirs.error_code


def test_clients_that_skip_api_versions_are_served(pair):
    """Old tools just speak: Metadata 0 and 1 without a question before."""
    for version in (0, 1, 4, 5):
        for answer in pair.ask(MetadataRequest(topics=[]), version):
            assert len(answer.brokers) == 1


def test_random_frames_only_close_their_connection(brokers):
    """Random bytes in well-framed requests of every API: never more than a closed connection or an answer."""
    seed = int.from_bytes(os.urandom(4), "big")
    chance = random.Random(seed)
    keys = [key for key in APIS if key not in (0, 19, 20)]
    for _ in range(300):
        body = _header(chance.choice(keys), chance.randrange(14)) + chance.randbytes(chance.randrange(200))
        host, _, port = one_address(brokers[1]).rpartition(":")
        with socket.create_connection((host, int(port)), 5) as connection:
            connection.sendall(_frame(body))
    with WireClient(one_address(brokers[1])) as client:
        assert client.call(ApiVersionsRequest(), 0).error_code == 0, f"seed {seed}"
