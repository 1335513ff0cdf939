"""What the client commands share: where the broker is, and what to say when it is not there."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from barnabas.cli.failure import CommandError

if TYPE_CHECKING:
    import argparse

    from confluent_kafka import KafkaError

__all__ = [
    "DEFAULT_BOOTSTRAP_SERVER",
    "admin_library",
    "client_arguments",
    "client_config",
    "explain",
    "reach",
]

DEFAULT_BOOTSTRAP_SERVER = "localhost:9092"

_CONNECT_TIMEOUT_S = 3.0


def admin_library() -> Any:
    """`confluent_kafka.admin`, untyped: it does not export to type checkers what it offers."""
    return import_module("confluent_kafka.admin")


def client_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options that every client command has."""
    parser.add_argument(
        "--bootstrap-server",
        metavar="HOST:PORT",
        default=os.environ.get("BARNABAS_BOOTSTRAP_SERVER", DEFAULT_BOOTSTRAP_SERVER),
        help=f"broker to begin with, or several, separated by commas "
        f"(environment variable BARNABAS_BOOTSTRAP_SERVER, else {DEFAULT_BOOTSTRAP_SERVER})",
    )
    parser.add_argument(
        "--property",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="properties",
        help="a setting of the client library (librdkafka); may be given many times",
    )


def client_config(options: argparse.Namespace, **settings: Any) -> dict[str, Any]:
    """The client library's configuration: these settings, under those that the user gives.

    Raises:
        CommandError: A --property is not of the form KEY=VALUE, or nobody listens at the address.
    """
    config: dict[str, Any] = {
        "bootstrap.servers": options.bootstrap_server,
        "client.id": f"barnabas-cli-{os.getpid()}",
        # The library would write lines of its own to standard error; failures are explained by us.
        "log_level": 0,
        "topic.metadata.refresh.fast.interval.ms": 50,
    }
    config.update(settings)
    for text in options.properties:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise CommandError(f"--property {text}: write it as KEY=VALUE.")
        config[name] = value
    reach(str(config["bootstrap.servers"]))
    return config


def reach(bootstrap_server: str) -> None:
    """Returns if somebody listens at one of the addresses: the library itself would try for ever.

    Raises:
        CommandError: Nobody does; the message says what to do.
    """
    import socket

    reason = "it is no address"
    for address in bootstrap_server.split(","):
        _, _, plain = address.strip().rpartition("://")
        host, colon, port = plain.rpartition(":")
        if not colon:
            host, port = plain, "9092"
        if not port.isdecimal():
            continue
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()
        except OSError as error:
            reason = (error.strerror or str(error) or "no answer").lower()
        else:
            return
    raise CommandError(
        f"there is no broker at {bootstrap_server} ({reason}); start one with 'barnabas serve', or name another with "
        "--bootstrap-server."
    )


def explain(error: KafkaError) -> str:
    """What a broker's or the library's error means, in one sentence, with its name for a search."""
    text = (error.str() or "").removeprefix("Broker: ").removeprefix("Local: ").strip().rstrip(".")
    return f"{text} ({error.name().removeprefix('_')})" if text else error.name().removeprefix("_")
