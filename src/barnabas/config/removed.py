"""Broker keys that Kafka 3.9 had and Kafka 4.3 has not: refused with the remedy where they mattered, else ignored."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["REMOVED", "Removed"]


class Removed(NamedTuple):
    """What becomes of a key of former times: `refused`, or ignored with a warning; and the remedy in one sentence."""

    refused: bool
    remedy: str


_NO_REVOCATION = Removed(
    True, "whether ZooKeeper's certificates are revoked is not looked up; remove the key."
)
_NO_MIGRATION = Removed(True, "what Apache Kafka keeps in ZooKeeper is not taken over; remove the key.")
_NO_ENCODER = Removed(False, "secrets are not stored in the cluster metadata, so nothing needs encoding.")

REMOVED: dict[str, Removed] = {
    **dict.fromkeys(("zookeeper.ssl.crl.enable", "zookeeper.ssl.ocsp.enable"), _NO_REVOCATION),
    **dict.fromkeys(
        ("zookeeper.ssl.protocol", "zookeeper.ssl.enabled.protocols", "zookeeper.ssl.cipher.suites"),
        Removed(False, "TLS to ZooKeeper is that of the system's OpenSSL."),
    ),
    "zookeeper.ssl.truststore.password": Removed(False, "certificates in PEM have no password."),
    "zookeeper.clientCnxnSocket": Removed(False, "zookeeper.ssl.client.enable is all that TLS needs."),
    "zookeeper.max.in.flight.requests": Removed(False, "requests to ZooKeeper have no limit of their own."),
    "zookeeper.metadata.migration.enable": _NO_MIGRATION,
    "zookeeper.metadata.migration.min.batch.size": _NO_MIGRATION,
    "broker.id.generation.enable": Removed(False, "node ids are not generated; set node.id."),
    "reserved.broker.max.id": Removed(False, "any node.id from 0 upwards may be used."),
    "controlled.shutdown.max.retries": Removed(False, "a shutdown asks once and waits for the answer."),
    "controlled.shutdown.retry.backoff.ms": Removed(False, "a shutdown asks once and waits for the answer."),
    "metadata.log.segment.min.bytes": Removed(False, "the metadata log rolls by metadata.log.segment.bytes."),
    "eligible.leader.replicas.enable": Removed(
        False, "it is a feature of the cluster, not a key, since Kafka 4."
    ),
    "control.plane.listener.name": Removed(
        True, "there is no separate control plane; remove the key and its listener."
    ),
    "leader.imbalance.per.broker.percentage": Removed(False, "leadership is balanced whenever it is uneven."),
    "inter.broker.protocol.version": Removed(False, "brokers agree on features, not on a protocol version."),
    "group.coordinator.new.enable": Removed(False, "there is one group coordinator."),
    "offsets.commit.required.acks": Removed(False, "offset commits always wait for all in-sync replicas."),
    "log.message.format.version": Removed(
        False, "records are stored in format 2, as in every Kafka since 3.0."
    ),
    "log.message.timestamp.difference.max.ms": Removed(
        True,
        "set log.message.timestamp.before.max.ms and log.message.timestamp.after.max.ms instead.",
    ),
    "log.message.downconversion.enable": Removed(False, "records are never converted to older formats."),
    "group.share.enable": Removed(
        False, "group.coordinator.rebalance.protocols says which groups are served."
    ),
    "group.share.max.groups": Removed(False, "the number of share groups has no limit of its own."),
    "auto.include.jmx.reporter": Removed(
        False, "there is no JMX; set barnabas.metrics.port for Prometheus metrics."
    ),
    "delegation.token.master.key": Removed(True, "its name is delegation.token.secret.key now."),
    "password.encoder.secret": _NO_ENCODER,
    "password.encoder.old.secret": _NO_ENCODER,
    "password.encoder.keyfactory.algorithm": _NO_ENCODER,
    "password.encoder.cipher.algorithm": _NO_ENCODER,
    "password.encoder.key.length": _NO_ENCODER,
    "password.encoder.iterations": _NO_ENCODER,
    "port": Removed(True, "set listeners=PLAINTEXT://host:port instead."),
    "host.name": Removed(True, "set listeners=PLAINTEXT://host:port instead."),
    "advertised.host.name": Removed(True, "set advertised.listeners=PLAINTEXT://host:port instead."),
    "advertised.port": Removed(True, "set advertised.listeners=PLAINTEXT://host:port instead."),
}
"""By name. The last four are older still, and tutorials keep them alive."""
