"""Print the records of a topic as they come, until Ctrl-C.

  barnabas consume greetings --from-beginning
  barnabas consume scores --group players --format '{key}: {value}'

Without --group every record is printed and nothing is remembered; with it, members of the group share the partitions,
and go on where the group stopped.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from barnabas.cli.client import client_arguments, client_config, explain
from barnabas.cli.failure import CommandError
from barnabas.cli.record_format import FIELDS, ConsumedRecord, record_format

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from confluent_kafka import Consumer, KafkaError, Message

__all__ = ["arguments", "run"]

_METADATA_TIMEOUT_S = 10.0

# Ctrl-C is seen when a poll returns.
_POLL_S = 0.2


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("topic", metavar="TOPIC", help="topic to read")
    parser.add_argument(
        "--from-beginning", action="store_true", help="begin with the oldest record (with what comes now)"
    )
    parser.add_argument("--group", metavar="GROUP", help="read as a member of this consumer group")
    parser.add_argument(
        "--partition",
        metavar="N",
        type=int,
        action="append",
        help="read this partition only; may be given many times",
    )
    parser.add_argument(
        "--offset", metavar="N", type=int, help="begin at this offset, or at the Nth last record if negative"
    )
    parser.add_argument("--max-messages", metavar="N", type=int, help="stop after so many records")
    parser.add_argument("--until-end", action="store_true", help="stop at the end of what there is")
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=float, help="stop when no record has come for so long"
    )
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        default="value",
        help=f"how to print a record: value, json, all, or a template with {', '.join(f'{{{name}}}' for name in FIELDS)} (value)",
    )
    parser.add_argument(
        "--null", metavar="TEXT", default="null", help="text for a key or value that is null (null)"
    )
    parser.add_argument(
        "--read-uncommitted", action="store_true", help="print records of open and aborted transactions too"
    )
    client_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Prints records until it is told to stop; 0 also after Ctrl-C.

    Raises:
        CommandError: The topic, a partition or an option does not fit, or the broker refuses.
    """
    import signal

    from confluent_kafka import Consumer, KafkaException

    if options.group is not None and (options.partition is not None or options.offset is not None):
        raise CommandError(
            "--group leaves partitions and offsets to the group; leave out --partition and --offset."
        )
    if options.from_beginning and options.offset is not None:
        raise CommandError("--from-beginning and --offset exclude each other; keep one of them.")
    line = record_format(options.format, options.null)
    failures: list[KafkaError] = []
    config = client_config(
        options,
        **{
            # Required by the library; without --group it is never sent, since partitions are assigned by hand.
            "group.id": options.group or f"barnabas-consume-{options.topic}",
            "enable.auto.commit": options.group is not None,
            # An offset counts as read once its line is written.
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest" if options.from_beginning else "latest",
            "enable.partition.eof": True,
            "allow.auto.create.topics": False,
            "isolation.level": "read_uncommitted" if options.read_uncommitted else "read_committed",
            "fetch.wait.max.ms": 200,
            "error_cb": failures.append,
        },
    )
    try:
        consumer = Consumer(config)
    except KafkaException as error:
        raise CommandError(explain(error.args[0])) from None
    # A service manager's SIGTERM ends it like Ctrl-C: the group is left, the offsets are committed.
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _begin(consumer, options)
        _print(consumer, options, line, failures)
    except KeyboardInterrupt:
        pass
    except KafkaException as error:
        raise CommandError(explain(error.args[0])) from None
    finally:
        consumer.close()
        signal.signal(signal.SIGTERM, previous)
    return 0


def _begin(consumer: Consumer, options: argparse.Namespace) -> None:
    """Subscribes, or assigns the partitions with their starting offsets."""
    from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, TopicPartition

    found = consumer.list_topics(options.topic, timeout=_METADATA_TIMEOUT_S).topics[options.topic]
    if found.error is not None:
        raise CommandError(
            f"{options.topic}: {explain(found.error)}; 'barnabas topics create {options.topic}' creates it."
        )
    if options.group is not None:
        consumer.subscribe([options.topic])
        return
    partitions = (
        sorted(found.partitions) if options.partition is None else list(dict.fromkeys(options.partition))
    )
    for partition in partitions:
        if partition not in found.partitions:
            raise CommandError(
                f"{options.topic} has no partition {partition}; it has {len(found.partitions)}, from 0."
            )
    start = OFFSET_BEGINNING if options.from_beginning else OFFSET_END
    assigned = []
    for partition in partitions:
        at = TopicPartition(options.topic, partition, start)
        if options.offset is not None:
            at.offset = options.offset
            if options.offset < 0:
                low, high = consumer.get_watermark_offsets(at, timeout=_METADATA_TIMEOUT_S)
                at.offset = max(low, high + options.offset)
        assigned.append(at)
    consumer.assign(assigned)


def _print(
    consumer: Consumer,
    options: argparse.Namespace,
    line: Callable[[ConsumedRecord], bytes],
    failures: list[KafkaError],
) -> None:
    import time

    from confluent_kafka import KafkaError

    out = sys.stdout.buffer
    left = options.max_messages
    ended: set[int | None] = set()
    patience_ends = None if options.timeout is None else time.monotonic() + options.timeout
    while left is None or left > 0:
        message = consumer.poll(0)
        if message is None:
            # Nothing is waiting: now the reader of our output may have what there was.
            out.flush()
            message = consumer.poll(_POLL_S)
        _complain(failures)
        if message is None:
            if patience_ends is not None and time.monotonic() >= patience_ends:
                return
            continue
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the library's public name begins so
                ended.add(message.partition())
                if options.until_end and ended >= {each.partition for each in consumer.assignment()}:
                    return
                continue
            raise CommandError(explain(error))
        ended.discard(message.partition())
        out.write(line(_record(message)))
        if options.group is not None:
            consumer.store_offsets(message=message)
        if left is not None:
            left -= 1
        if patience_ends is not None:
            patience_ends = time.monotonic() + options.timeout


def _record(message: Message) -> ConsumedRecord:
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    kind, timestamp_ms = message.timestamp()
    headers: Any = message.headers() or ()
    return ConsumedRecord(
        topic,
        partition,
        offset,
        timestamp_ms if kind else -1,
        message.key(),
        message.value(),
        tuple(headers),
    )


def _complain(failures: list[KafkaError]) -> None:
    """Says what the library reports from the background: it goes on trying unless the error is fatal."""
    while failures:
        error = failures.pop(0)
        if error.fatal():
            raise CommandError(explain(error))
        print(f"barnabas consume: {explain(error)}; trying again.", file=sys.stderr)
