"""`meta.properties`: whose log directory this is.

    #
    cluster.id=mhq6X9m7QKG3cC9Z6Sbk3Q
    directory.id=oUq3m5pIQhCbqkSqcxBoXg
    node.id=1
    version=1

It is written once, when a directory is first used, and keeps a broker from serving the data of another node or cluster.
Version 0 (of the ZooKeeper days: `broker.id`, no directory id) is read and rewritten as version 1.

Source: `MetaProperties`, `MetaPropertiesVersion` of Apache Kafka 4.3; KIP-631, KIP-858 (directory ids).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from barnabas.errors import ConfigError
from barnabas.wire.primitives import RESERVED_UUIDS, uuid_from_text, uuid_to_text

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "META_PROPERTIES",
    "MetaProperties",
    "decode_meta_properties",
    "encode_meta_properties",
]

META_PROPERTIES = "meta.properties"


class MetaProperties(NamedTuple):
    """The owner of a log directory. Version 0 may lack the cluster id and has no directory id."""

    cluster_id: str | None
    node_id: int
    directory_id: bytes | None


def encode_meta_properties(properties: MetaProperties) -> bytes:
    """The content of the file, version 1."""
    assert properties.cluster_id is not None
    assert properties.directory_id is not None
    return (
        "#\n"
        f"cluster.id={properties.cluster_id}\n"
        f"directory.id={uuid_to_text(properties.directory_id)}\n"
        f"node.id={properties.node_id}\n"
        "version=1\n"
    ).encode()


def decode_meta_properties(content: bytes, path: Path) -> MetaProperties:
    """What the file says.

    Raises:
        ConfigError: it does not say whose directory this is; the message names the file and the remedy.
    """
    values = _parse_properties(content.decode("latin-1"))
    remedy = "restore it from a backup, or give the broker another data directory"
    version = values.get("version", "0")
    if version not in {"0", "1"}:
        raise ConfigError(f"{path} has version {version}, which this broker does not know; {remedy}.")
    node_key = "node.id" if "node.id" in values else "broker.id"
    try:
        node_id = int(values[node_key])
    except (KeyError, ValueError):
        raise ConfigError(f"{path} does not say which node the directory belongs to; {remedy}.") from None
    cluster_id = values.get("cluster.id")
    if not cluster_id and version == "1":
        raise ConfigError(f"{path} does not say which cluster the directory belongs to; {remedy}.")
    directory_id = None
    if text := values.get("directory.id"):
        try:
            directory_id = uuid_from_text(text)
        except ValueError:
            raise ConfigError(f"{path} has the directory.id {text!r}, which is no id; {remedy}.") from None
        if int.from_bytes(directory_id, "big") < RESERVED_UUIDS:
            raise ConfigError(f"{path} has the directory.id {text}, which is reserved; {remedy}.")
    return MetaProperties(cluster_id or None, node_id, directory_id)


def _parse_properties(text: str) -> dict[str, str]:
    """Java's properties format, as far as these files use it: comments, `=` or `:`, backslash before a character."""
    values: dict[str, str] = {}
    for raw_line in text.splitlines():
        line = raw_line.strip()
        if not line or line[0] in "#!":
            continue
        cut = min((at for at in (line.find("="), line.find(":")) if at >= 0), default=len(line))
        values[line[:cut].strip()] = line[cut + 1 :].strip().replace("\\", "")
    return values
