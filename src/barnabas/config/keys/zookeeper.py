"""Broker keys: Apache ZooKeeper, where a cluster keeps its metadata.

Kafka 4 has no such keys; names, types and, where nothing else is said, defaults are those of Kafka 3.9 (`ZkConfigs`). Ours are those that
Kafka took from a JAAS file.
"""

from __future__ import annotations

from barnabas.config.definition import (
    BOOLEAN,
    HIGH,
    INT,
    LOW,
    MEDIUM,
    PASSWORD,
    STRING,
    ConfigKey,
    at_least,
    one_of,
)

__all__ = ["KEYS"]

# fmt: off
KEYS = (
    ConfigKey("zookeeper.connect", STRING, None, HIGH,
      "Servers of the ZooKeeper that keeps the cluster's metadata, and the path of the cluster in it: host:port,host:port/path.",
      internal=True),
    ConfigKey("zookeeper.session.timeout.ms", INT, 6_000, HIGH,
      "Silence after which ZooKeeper takes a broker for dead.",
      at_least(1), internal=True, kafka_default=18_000,
      differs="Kafka 3.9 has 18000. A leader that was killed is replaced before, because its port is closed; where its machine is gone, cut off or frozen, its partitions wait for this."),
    ConfigKey("zookeeper.connection.timeout.ms", INT, 18_000, HIGH,
      "Time in which a starting broker must reach ZooKeeper, or else it gives up.",
      at_least(1), internal=True, kafka_default=None,
      differs="Kafka 3.9 has the session's time-out unless it is set."),
    ConfigKey("zookeeper.set.acl", BOOLEAN, False, HIGH,
      "Whether only barnabas.zookeeper.username may read and write what the brokers keep in ZooKeeper.",
      internal=True),
    ConfigKey("zookeeper.ssl.client.enable", BOOLEAN, False, MEDIUM,
      "Whether ZooKeeper is reached by TLS.",
      internal=True),
    ConfigKey("zookeeper.ssl.keystore.location", STRING, None, MEDIUM,
      "PEM file with the broker's certificate for ZooKeeper, and its key.",
      internal=True),
    ConfigKey("zookeeper.ssl.keystore.password", PASSWORD, None, MEDIUM,
      "Password of the key in zookeeper.ssl.keystore.location.",
      internal=True),
    ConfigKey("zookeeper.ssl.keystore.type", STRING, "PEM", MEDIUM,
      "Format of zookeeper.ssl.keystore.location.",
      internal=True, kafka_default=None,
      differs="JKS and PKCS12 are not read; convert them with keytool and openssl."),
    ConfigKey("zookeeper.ssl.truststore.location", STRING, None, MEDIUM,
      "PEM file with the certificates to trust of ZooKeeper's servers; those of the system when it is unset.",
      internal=True),
    ConfigKey("zookeeper.ssl.truststore.type", STRING, "PEM", MEDIUM,
      "Format of zookeeper.ssl.truststore.location.",
      internal=True, kafka_default=None,
      differs="JKS and PKCS12 are not read; convert them with keytool and openssl."),
    ConfigKey("zookeeper.ssl.endpoint.identification.algorithm", STRING, "HTTPS", LOW,
      "Whether a ZooKeeper server's certificate must name the host that it was reached by (HTTPS), or need not (empty).",
      one_of("HTTPS", "https", ""), internal=True),
    ConfigKey("barnabas.zookeeper.scheme", STRING, "sasl", MEDIUM,
      "How a broker says to ZooKeeper who it is: sasl (DIGEST-MD5, ZooKeeper has to know the user) or digest (ZooKeeper's own).",
      one_of("sasl", "digest")),
    ConfigKey("barnabas.zookeeper.username", STRING, None, MEDIUM,
      "Who a broker is to ZooKeeper; nobody in particular when it is unset."),
    ConfigKey("barnabas.zookeeper.password", PASSWORD, None, MEDIUM,
      "Password of barnabas.zookeeper.username."),
    ConfigKey("barnabas.zookeeper.append.timeout.ms", INT, 15_000, LOW,
      "Time after which a change of metadata fails that ZooKeeper has not taken.",
      at_least(1)),
)
