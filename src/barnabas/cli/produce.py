r"""Send lines from standard input as records, one line each.

echo hello | barnabas produce greetings
printf 'ann:1\nbob:2\n' | barnabas produce scores --key-separator :
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from barnabas.cli.client import client_arguments, client_config, explain
from barnabas.cli.failure import CommandError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from confluent_kafka import KafkaError, Message, Producer

__all__ = ["arguments", "parse_line", "run"]

_FAILURES_SHOWN = 5


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("topic", metavar="TOPIC", help="topic to send to")
    parser.add_argument(
        "--key-separator", metavar="TEXT", help="text between key and value of a line (no keys)"
    )
    parser.add_argument("--key", metavar="KEY", help="key of every record")
    parser.add_argument(
        "--partition", metavar="N", type=int, default=-1, help="partition (by the key's hash)"
    )
    parser.add_argument(
        "--header",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        dest="headers",
        help="a header of every record; may be given many times",
    )
    parser.add_argument(
        "--null", metavar="TEXT", help="a key or value that is this text is sent as null: a tombstone (none)"
    )
    parser.add_argument(
        "--acks",
        choices=("all", "1", "0"),
        default="all",
        help="who must have a record before it counts as sent (all)",
    )
    parser.add_argument(
        "--compression",
        choices=("none", "gzip", "snappy", "lz4", "zstd"),
        default="none",
        help="codec (none)",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=30.0,
        help="time in which a record must be sent (30)",
    )
    parser.add_argument("--quiet", action="store_true", help="do not say how many records were sent")
    client_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Sends what standard input holds; 1 if any of it was not stored.

    Raises:
        CommandError: Nothing can be sent, or a line has no key separator.
    """
    from confluent_kafka import KafkaException, Producer

    if options.key is not None and options.key_separator is not None:
        raise CommandError("--key and --key-separator exclude each other; keep one of them.")
    headers = [_header(text) for text in options.headers]
    outcome = _Outcome()
    config = client_config(
        options,
        **{
            "acks": options.acks,
            # Without it a retry can store a record twice; it needs acks=all.
            "enable.idempotence": options.acks == "all",
            "compression.type": options.compression,
            "message.timeout.ms": max(1, round(options.timeout * 1000)),
            "topic.metadata.propagation.max.ms": max(1, round(options.timeout * 500)),
            "message.max.bytes": 1_000_000_000,
            "linger.ms": 5,
            "on_delivery": outcome.delivered,
        },
    )
    try:
        producer = Producer(config)
    except KafkaException as error:
        raise CommandError(explain(error.args[0])) from None
    bad_line: CommandError | None = None
    try:
        for key, value in _records(sys.stdin.buffer, options):
            _send(producer, options, key, value, headers)
    except CommandError as error:
        bad_line = error
    except KafkaException as error:
        bad_line = CommandError(explain(error.args[0]))
    finally:
        # What was read is sent, also after Ctrl-C.
        unsent = producer.flush(options.timeout + 5)
    outcome.report(options, unsent)
    if bad_line is not None:
        raise bad_line
    return 1 if outcome.failed or unsent else 0


def parse_line(
    line: bytes, key: bytes | None, separator: bytes | None, null: bytes | None
) -> tuple[bytes | None, ...]:
    """Key and value of a line without its line break.

    Raises:
        ValueError: There should be a separator, and there is none.
    """
    value: bytes | None = line
    if separator is not None:
        first, found, rest = line.partition(separator)
        if not found:
            raise ValueError(line)
        key, value = first, rest
    return (None if key == null else key), (None if value == null else value)


def _records(lines: Iterable[bytes], options: argparse.Namespace) -> Iterable[tuple[bytes | None, ...]]:
    key = None if options.key is None else options.key.encode()
    separator = None if options.key_separator is None else options.key_separator.encode()
    null = None if options.null is None else options.null.encode()
    for number, line in enumerate(lines, start=1):
        try:
            yield parse_line(
                line.rstrip(b"\r\n") if line.endswith((b"\n", b"\r")) else line, key, separator, null
            )
        except ValueError:
            raise CommandError(
                f"line {number} has no {options.key_separator!r}; it and what follows was not sent."
            ) from None


def _send(
    producer: Producer,
    options: argparse.Namespace,
    key: bytes | None,
    value: bytes | None,
    headers: list[tuple[str, str | bytes | None]],
) -> None:
    arguments: dict[str, Any] = {"partition": options.partition} if options.partition >= 0 else {}
    while True:
        try:
            producer.produce(options.topic, value, key, headers=headers, **arguments)
        except BufferError:
            # The library's queue is full: wait until some of it is acknowledged.
            producer.poll(0.1)
        else:
            producer.poll(0)
            return


def _header(text: str) -> tuple[str, str | bytes | None]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise CommandError(f"--header {text}: write it as NAME=VALUE.")
    return name, value.encode()


class _Outcome:
    """Counts what was stored and what was not, and says why."""

    def __init__(self) -> None:
        self.stored = 0
        self.failed = 0

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.stored += 1
            return
        self.failed += 1
        if self.failed <= _FAILURES_SHOWN:
            size = len(message.value() or b"")
            print(
                f"barnabas produce: a record of {size} bytes was not stored: {explain(error)}",
                file=sys.stderr,
            )

    def report(self, options: argparse.Namespace, unsent: int) -> None:
        lost = self.failed + unsent
        if self.failed > _FAILURES_SHOWN:
            print(f"barnabas produce: and {self.failed - _FAILURES_SHOWN} more.", file=sys.stderr)
        if not options.quiet or lost:
            noun = "record" if self.stored == 1 else "records"
            missing = f"; {lost} not stored" if lost else ""
            print(f"Sent {self.stored} {noun} to {options.topic}{missing}.", file=sys.stderr)
