"""What a broker's settings say of ZooKeeper."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from barnabas.controller.store.zookeeper.session import Credentials, SessionSettings, TlsSettings
from barnabas.controller.store.zookeeper.store import ZooKeeperStore
from barnabas.errors import ConfigError

if TYPE_CHECKING:
    import asyncio

    from barnabas.clock import Clock
    from barnabas.config.broker import BrokerConfig

__all__ = ["session_settings", "zookeeper_store"]

_SERVER = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:\[\],/]+)(:\d{1,5})?")


def zookeeper_store(config: BrokerConfig, clock: Clock, loop: asyncio.AbstractEventLoop) -> ZooKeeperStore:
    """The store of a broker with these settings.

    Raises:
        ConfigError: As `session_settings`.
    """
    return ZooKeeperStore(
        session_settings(config),
        node_id=config["node.id"],
        clock=clock,
        loop=loop,
        snapshot_bytes=config["metadata.log.max.record.bytes.between.snapshots"],
        append_timeout_ms=config["barnabas.zookeeper.append.timeout.ms"],
    )


def session_settings(config: BrokerConfig) -> SessionSettings:
    """How ZooKeeper is reached.

    Raises:
        ConfigError: `zookeeper.connect` is no list of servers, or what it takes to prove who we are is missing.
    """
    hosts, root = _connect(config["zookeeper.connect"] or "")
    credentials = None
    if config["barnabas.zookeeper.username"] is not None:
        password = config["barnabas.zookeeper.password"]
        if password is None:
            raise ConfigError(
                "barnabas.zookeeper.username is set without barnabas.zookeeper.password; set both."
            )
        credentials = Credentials(
            config["barnabas.zookeeper.scheme"], config["barnabas.zookeeper.username"], password.value
        )
    elif config["zookeeper.set.acl"]:
        raise ConfigError(
            "zookeeper.set.acl is set without a user whose nodes they would be: set barnabas.zookeeper.username and "
            "barnabas.zookeeper.password too."
        )
    tls = None
    if config["zookeeper.ssl.client.enable"]:
        for name in ("zookeeper.ssl.keystore.type", "zookeeper.ssl.truststore.type"):
            if config[name].upper() != "PEM":
                raise ConfigError(
                    f"{name}={config[name]} is not read; convert the file (keytool, then openssl pkcs12) and set PEM."
                )
        key_password = config["zookeeper.ssl.keystore.password"]
        key_store = config["zookeeper.ssl.keystore.location"]
        tls = TlsSettings(
            ca_file=config["zookeeper.ssl.truststore.location"],
            certificate_file=key_store,
            key_file=key_store,
            key_password=None if key_password is None else key_password.value,
            check_hostname=bool(config["zookeeper.ssl.endpoint.identification.algorithm"]),
        )
    return SessionSettings(
        hosts,
        root,
        session_timeout_ms=config["zookeeper.session.timeout.ms"],
        connection_timeout_ms=config["zookeeper.connection.timeout.ms"],
        private=config["zookeeper.set.acl"],
        credentials=credentials,
        tls=tls,
    )


def _connect(text: str) -> tuple[str, str]:
    servers, slash, path = text.partition("/")
    hosts = [server.strip() for server in servers.split(",")]
    if not all(_SERVER.fullmatch(host) for host in hosts):
        raise ConfigError(
            f"zookeeper.connect={text} is no list of servers; write it as host:port,host:port or host:port/path."
        )
    names = path.removesuffix("/").split("/")
    if not path:
        return ",".join(hosts), ""
    if any(name in ("", ".", "..") for name in names):
        raise ConfigError(
            f"zookeeper.connect={text} has no path that ZooKeeper would take; write it as host:port/path."
        )
    return ",".join(hosts), slash + "/".join(names)
