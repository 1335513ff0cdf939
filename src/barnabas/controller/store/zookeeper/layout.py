"""Where what lies in ZooKeeper, and how it is spelled: the paths and the small JSON nodes. Pure.

`docs/formats/zookeeper.md` has the whole picture.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from barnabas.controller.brokers import BrokerRegistration
from barnabas.errors import DecodeError
from barnabas.wire.primitives import uuid_from_text, uuid_to_text

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BROKERS",
    "CLUSTER",
    "CONTROLLER",
    "CONTROLLER_EPOCH",
    "FORMAT",
    "HEAD",
    "LOG",
    "SNAPSHOT",
    "BrokerNode",
    "Head",
    "Leader",
    "SnapshotPointer",
    "broker_path",
    "chunk_offset",
    "chunk_path",
    "decode_broker",
    "decode_cluster",
    "decode_head",
    "decode_leader",
    "decode_pointer",
    "decode_snapshot_name",
    "encode_broker",
    "encode_cluster",
    "encode_head",
    "encode_leader",
    "encode_pointer",
    "piece_path",
    "skeleton",
    "snapshot_path",
]

FORMAT = 1
"""Version of this layout; a store refuses a cluster of a later one."""

CLUSTER = "/cluster"
BROKERS = "/brokers/ids"
CONTROLLER = "/controller"
CONTROLLER_EPOCH = "/controller_epoch"
LOG = "/metadata/log"
HEAD = "/metadata/head"
SNAPSHOT = "/metadata/snapshot"


class Head(NamedTuple):
    """How far the log goes: the offset of its last record, and the epoch of whoever wrote it; -1 and 0 when it is empty."""

    offset: int
    epoch: int


class Leader(NamedTuple):
    """Who writes the log."""

    node_id: int
    epoch: int


class SnapshotPointer(NamedTuple):
    """The newest whole snapshot.

    Attributes:
        next_offset: The offset after the last record that is in it.
        epoch: The epoch of that record.
        pieces: How many nodes it lies in.
        size_bytes: Its size.
        previous: `next_offset` and `epoch` of the one before, which is kept too, if there is one.
    """

    next_offset: int
    epoch: int
    pieces: int
    size_bytes: int
    previous: tuple[int, int] | None = None


class BrokerNode(NamedTuple):
    """What a broker's node says: its registration, and the machine that its process runs on."""

    registration: BrokerRegistration
    machine: str


# ----- paths


def skeleton(cluster_id: str) -> Iterator[tuple[str, bytes]]:
    """The nodes of a new cluster, parents first."""
    yield CLUSTER, encode_cluster(cluster_id)
    yield "/brokers", b""
    yield BROKERS, b""
    yield CONTROLLER_EPOCH, b"0"
    yield "/metadata", b""
    yield LOG, b""
    yield HEAD, encode_head(Head(-1, 0))
    yield SNAPSHOT, b""


def broker_path(broker_id: int) -> str:
    """The node that says that a broker is alive."""
    return f"{BROKERS}/{broker_id}"


def chunk_path(base_offset: int, piece: int = 0) -> str:
    """A chunk of the log by the offset of its first record; or the further pieces of one that does not fit into a node."""
    return f"{LOG}/{base_offset:020}.{piece:04}" if piece else f"{LOG}/{base_offset:020}"


def chunk_offset(name: str) -> int:
    """The base offset in the name of a chunk or of one of its pieces.

    Raises:
        DecodeError: It is none.
    """
    offset, _, _ = name.partition(".")
    return _number(offset, name)


def snapshot_path(next_offset: int, epoch: int) -> str:
    """The node above a snapshot's pieces; named as Kafka names snapshot files."""
    return f"{SNAPSHOT}/{next_offset:020}-{epoch:010}"


def decode_snapshot_name(name: str) -> tuple[int, int]:
    """`next_offset` and `epoch` of a snapshot.

    Raises:
        DecodeError: It is none.
    """
    offset, _, epoch = name.partition("-")
    return _number(offset, name), _number(epoch, name)


def piece_path(snapshot: str, piece: int) -> str:
    """A piece of a snapshot."""
    return f"{snapshot}/{piece:04}"


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise DecodeError(f"{what!r} is no name that the metadata log would have")
    return int(text)


# ----- nodes


def _to_json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode()


def _from_json(data: bytes, what: str) -> dict[str, Any]:
    try:
        fields = json.loads(data)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        raise DecodeError(f"{what} is no JSON object: {data[:100]!r}")
    return fields


def encode_cluster(cluster_id: str) -> bytes:
    """The node of the cluster itself."""
    return _to_json({"cluster_id": cluster_id, "format": FORMAT})


def decode_cluster(data: bytes) -> tuple[str, int]:
    """The cluster's id, and the version of its layout.

    Raises:
        DecodeError: It is no cluster of ours.
    """
    fields = _from_json(data, CLUSTER)
    match fields:
        case {"cluster_id": str(cluster_id), "format": int(version)}:
            return cluster_id, version
    raise DecodeError(f"{CLUSTER} names no cluster: {data[:100]!r}")


def encode_head(head: Head) -> bytes:
    """The node that says how far the log goes."""
    return _to_json(head._asdict())


def decode_head(data: bytes) -> Head:
    """How far the log goes; DecodeError."""
    match _from_json(data, HEAD):
        case {"offset": int(offset), "epoch": int(epoch)}:
            return Head(offset, epoch)
    raise DecodeError(f"{HEAD} has no offset: {data[:100]!r}")


def encode_leader(leader: Leader) -> bytes:
    """The node that says who writes the log."""
    return _to_json(leader._asdict())


def decode_leader(data: bytes) -> Leader:
    """Who writes the log; DecodeError."""
    match _from_json(data, CONTROLLER):
        case {"node_id": int(node_id), "epoch": int(epoch)}:
            return Leader(node_id, epoch)
    raise DecodeError(f"{CONTROLLER} names no controller: {data[:100]!r}")


def encode_pointer(pointer: SnapshotPointer) -> bytes:
    """The node that names the newest whole snapshot."""
    return _to_json(pointer._asdict())


def decode_pointer(data: bytes) -> SnapshotPointer | None:
    """The newest whole snapshot, None where there is none yet; DecodeError."""
    if not data:
        return None
    match _from_json(data, SNAPSHOT):
        case {
            "next_offset": int(next_offset),
            "epoch": int(epoch),
            "pieces": int(pieces),
            "size_bytes": int(size_bytes),
            "previous": previous,
        }:
            match previous:
                case None:
                    return SnapshotPointer(next_offset, epoch, pieces, size_bytes)
                case [int(before), int(epoch_before)]:
                    return SnapshotPointer(next_offset, epoch, pieces, size_bytes, (before, epoch_before))
    raise DecodeError(f"{SNAPSHOT} names no snapshot: {data[:100]!r}")


def encode_broker(node: BrokerNode) -> bytes:
    """The node of a broker that is alive."""
    registration = node.registration
    return _to_json(
        {
            "broker_id": registration.broker_id,
            "incarnation_id": uuid_to_text(registration.incarnation_id),
            "endpoints": [
                {
                    "name": name,
                    "host": host,
                    "port": port,
                    "security_protocol": registration.security_protocols.get(name, 0),
                }
                for name, (host, port) in registration.endpoints.items()
            ],
            "rack": registration.rack,
            "log_dirs": [uuid_to_text(each) for each in registration.log_dirs],
            "features": {name: list(levels) for name, levels in registration.features.items()},
            "clean": registration.clean,
            "machine": node.machine,
        }
    )


def decode_broker(data: bytes) -> BrokerNode:
    """A broker that is alive; DecodeError."""
    fields = _from_json(data, BROKERS)
    try:
        endpoints = fields["endpoints"]
        return BrokerNode(
            BrokerRegistration(
                broker_id=int(fields["broker_id"]),
                incarnation_id=uuid_from_text(fields["incarnation_id"]),
                endpoints={each["name"]: (str(each["host"]), int(each["port"])) for each in endpoints},
                security_protocols={each["name"]: int(each["security_protocol"]) for each in endpoints},
                rack=fields["rack"],
                log_dirs=tuple(uuid_from_text(each) for each in fields["log_dirs"]),
                features={name: (int(low), int(high)) for name, (low, high) in fields["features"].items()},
                clean=bool(fields["clean"]),
            ),
            str(fields["machine"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DecodeError(f"a node in {BROKERS} is no broker's: {error!r}: {data[:200]!r}") from error
