"""Start a broker, and serve until it is told to stop (Ctrl-C or SIGTERM).

Settings have Kafka's names; docs/reference/configuration.md lists them. They come from --set and the options here,
else from environment variables (BARNABAS_LOG_RETENTION_HOURS=24), else from the file, else they have their defaults.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from barnabas.cli.failure import CommandError
from barnabas.errors import ConfigError, KafkaError, StorageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from barnabas.broker import Broker
    from barnabas.config.broker import BrokerConfig

__all__ = ["arguments", "listener", "ready_line", "run", "settings"]

logger = logging.getLogger(__name__)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("--listen", metavar="HOST:PORT", help="address to serve clients at (localhost:9092)")
    parser.add_argument("--data-dir", metavar="DIR", help="directory of all data (./barnabas-data)")
    parser.add_argument("--node-id", metavar="N", help="number of this node (1)")
    parser.add_argument(
        "--zookeeper",
        metavar="HOST:PORT[,…][/PATH]",
        help="Apache ZooKeeper of the cluster to join (none: a single node)",
    )
    parser.add_argument("--config", metavar="FILE", help="properties file, such as Kafka's server.properties")
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="settings",
        help="a setting; may be given many times",
    )
    parser.add_argument("--log-format", choices=("text", "json"), help="form of log lines (text)")
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), help="least level of log lines (info)"
    )


def run(options: argparse.Namespace) -> int:
    """Starts the broker and returns its exit status when it has stopped.

    Raises:
        ConfigError: A setting is wrong, an address cannot be bound, or a data directory cannot be used.
        CommandError: What the broker needs of its disk cannot be read or written, or is that of a newer version.
    """
    from barnabas.cli.logs import configure_logging
    from barnabas.cli.process import raise_open_files_limit, tune_garbage_collector
    from barnabas.config.broker import BrokerConfig

    tune_garbage_collector()
    config = BrokerConfig.load(options.config, os.environ, settings(options))
    configure_logging(config["barnabas.log.format"], config["barnabas.log.level"])
    _warn(config)
    open_files = raise_open_files_limit()
    if open_files is not None and open_files < config["barnabas.open.files"] + _SOCKETS_AT_LEAST:
        logger.warning(
            "only %d files may be open at once: raise the limit (ulimit -n), or lower barnabas.open.files",
            open_files,
        )

    from barnabas import broker

    def ready(started: Broker) -> None:
        print(ready_line(started.addresses.values(), config), flush=True)

    try:
        return broker.run(config, ready)
    except (StorageError, KafkaError) as error:
        # A disk that cannot be read or written, or a cluster at a level that this version does not know.
        logger.debug("the broker cannot start", exc_info=True)
        sentence = error.message if isinstance(error, KafkaError) and error.message else str(error)
        raise CommandError(f"{sentence.removesuffix('.')}.") from error
    except OSError as error:
        if error.filename is None:
            raise
        # A directory in the way, a full disk: which file it was is the remedy.
        raise ConfigError(f"{error.filename} cannot be used: {error.strerror}.") from error


_SOCKETS_AT_LEAST = 512


def settings(options: argparse.Namespace) -> dict[str, str]:
    """The settings that the command line gives; the options count over --set.

    Raises:
        ConfigError: A --set is not of the form KEY=VALUE, or --listen not of the form HOST:PORT.
    """
    found: dict[str, str] = {}
    for text in options.settings:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set {text}: write it as KEY=VALUE, for example --set num.partitions=3.")
        found[name.strip()] = value.strip()
    options_given = {
        "listeners": listener(options.listen) if options.listen is not None else None,
        "log.dirs": options.data_dir,
        "node.id": options.node_id,
        "zookeeper.connect": options.zookeeper,
        "barnabas.log.format": options.log_format,
        "barnabas.log.level": options.log_level,
    }
    found.update((name, value) for name, value in options_given.items() if value is not None)
    return found


def listener(address: str) -> str:
    """The value of `listeners` for `HOST:PORT`, `:PORT` (every interface) or `PORT` (localhost).

    Raises:
        ConfigError: It is none of these.
    """
    host, colon, port = address.rpartition(":")
    if not colon:
        host = "localhost"
    if not port.isdecimal() or int(port) > 65_535 or (":" in host and not host.startswith("[")):
        raise ConfigError(f"--listen {address}: write it as HOST:PORT, for example --listen localhost:9092.")
    return f"PLAINTEXT://{host}:{port}"


def ready_line(addresses: Iterable[tuple[str, int]], config: BrokerConfig) -> str:
    """The one line on standard output that says that clients are served now, and where."""
    from barnabas import __version__
    from barnabas.cli.logs import pair
    from barnabas.cli.process import age_ms

    fields = {
        "version": __version__,
        "address": ",".join(map(_shown, addresses)),
        "data": ",".join(os.path.abspath(path) for path in config["log.dirs"]),  # noqa: PTH100 - a slow import
        "node": config["node.id"],
        "start_ms": age_ms(),
    }
    if config["barnabas.log.format"] == "json":
        import json

        return json.dumps({"event": "ready", **fields})
    return "Barnabas is ready: " + " ".join(pair(key, value) for key, value in fields.items())


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host or '0.0.0.0'}:{port}"  # noqa: S104 - said, not bound


def _warn(config: BrokerConfig) -> None:
    for warning in config.warnings:
        logger.warning(warning)
    idle = config.without_effect()
    if idle:
        logger.warning("set, but without effect in this version: %s", ", ".join(sorted(idle)))
