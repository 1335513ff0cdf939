"""List, create, describe and delete topics."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from barnabas.cli.client import admin_library, client_arguments, client_config, explain
from barnabas.cli.failure import CommandError
from barnabas.cli.table import table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping
    from concurrent.futures import Future

    from confluent_kafka.admin import AdminClient

__all__ = ["arguments", "run"]

_TIMEOUT_S = 30.0

_DYNAMIC_TOPIC_CONFIG = 1


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the actions and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="list topics", description="List topics.", allow_abbrev=False)
    listing.add_argument("--internal", action="store_true", help="list the brokers' own topics too")
    listing.add_argument("--json", action="store_true", help="write a JSON array")

    creating = actions.add_parser(
        "create", help="create topics", description="Create topics.", allow_abbrev=False
    )
    creating.add_argument("topics", metavar="TOPIC", nargs="+", help="name of a topic")
    creating.add_argument(
        "--partitions", metavar="N", type=int, default=-1, help="partitions (the broker's default)"
    )
    creating.add_argument(
        "--replication-factor",
        metavar="N",
        type=int,
        default=-1,
        help="replicas of each (the broker's default)",
    )
    creating.add_argument(
        "--config",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        dest="configs",
        help="a topic setting, see docs/reference/topic-configuration.md; may be given many times",
    )
    creating.add_argument(
        "--if-not-exists", action="store_true", help="do not mind if a topic is there already"
    )

    describing = actions.add_parser(
        "describe",
        help="describe topics",
        description="Describe topics: partitions, offsets, settings.",
        allow_abbrev=False,
    )
    describing.add_argument("topics", metavar="TOPIC", nargs="*", help="name of a topic (all topics)")
    describing.add_argument("--json", action="store_true", help="write a JSON array")

    deleting = actions.add_parser(
        "delete",
        help="delete topics with all their records",
        description="Delete topics with all their records.",
        allow_abbrev=False,
    )
    deleting.add_argument("topics", metavar="TOPIC", nargs="+", help="name of a topic")
    deleting.add_argument("--if-exists", action="store_true", help="do not mind if a topic is not there")

    for action in (listing, creating, describing, deleting):
        client_arguments(action)


def run(options: argparse.Namespace) -> int:
    """Does the action; 1 if it failed for any of the topics.

    Raises:
        CommandError: Nothing could be done at all.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    configs = _pairs(options.configs) if options.action == "create" else {}
    admin = AdminClient(client_config(options))
    try:
        if options.action == "list":
            return _list(admin, options)
        if options.action == "create":
            return _create(admin, options, configs)
        if options.action == "describe":
            return _describe(admin, options)
        return _delete(admin, options)
    except KafkaException as error:
        raise CommandError(explain(error.args[0])) from None


def _list(admin: AdminClient, options: argparse.Namespace) -> int:
    topics = [
        topic
        for name, topic in sorted(admin.list_topics(timeout=_TIMEOUT_S).topics.items())
        if options.internal or not name.startswith("__")
    ]
    rows = [
        (
            str(topic.topic),
            len(topic.partitions),
            max((len(each.replicas) for each in topic.partitions.values()), default=0),
        )
        for topic in topics
    ]
    if options.json:
        _print_json(
            [{"name": name, "partitions": count, "replicas": replicas} for name, count, replicas in rows]
        )
    elif rows:
        print(table(("TOPIC", "PARTITIONS", "REPLICAS"), rows))
    else:
        print("There are no topics; 'barnabas topics create NAME' creates one.", file=sys.stderr)
    return 0


def _create(admin: AdminClient, options: argparse.Namespace, configs: dict[str, str]) -> int:
    from confluent_kafka import KafkaError

    library = admin_library()
    wanted = [
        library.NewTopic(name, options.partitions, options.replication_factor, config=configs)
        for name in dict.fromkeys(options.topics)
    ]
    ignored = {KafkaError.TOPIC_ALREADY_EXISTS: "{} is there already."} if options.if_not_exists else {}
    return _report(admin.create_topics(wanted, operation_timeout=_TIMEOUT_S), "Created {}.", ignored)


def _delete(admin: AdminClient, options: argparse.Namespace) -> int:
    from confluent_kafka import KafkaError

    ignored = {KafkaError.UNKNOWN_TOPIC_OR_PART: "{} is not there."} if options.if_exists else {}
    names = list(dict.fromkeys(options.topics))
    return _report(admin.delete_topics(names, operation_timeout=_TIMEOUT_S), "Deleted {}.", ignored)


def _describe(admin: AdminClient, options: argparse.Namespace) -> int:
    from confluent_kafka import KafkaException, TopicCollection

    names = list(dict.fromkeys(options.topics)) or sorted(
        name for name in admin.list_topics(timeout=_TIMEOUT_S).topics if not name.startswith("__")
    )
    if not names:
        return 0
    descriptions: list[Any] = []
    failed = False
    for name, future in admin.describe_topics(TopicCollection(names), request_timeout=_TIMEOUT_S).items():
        try:
            descriptions.append(future.result())
        except KafkaException as error:
            failed = True
            print(f"barnabas topics: {name}: {explain(error.args[0])}", file=sys.stderr)
    found = [_details(admin, description) for description in descriptions]
    if options.json:
        _print_json(found)
    else:
        print("\n\n".join(map(_as_text, found)))
    return 1 if failed else 0


def _details(admin: AdminClient, description: Any) -> dict[str, Any]:
    name = description.name
    library = admin_library()
    resource = library.ConfigResource(library.ResourceType.TOPIC, name)
    (configs,) = admin.describe_configs([resource], request_timeout=_TIMEOUT_S).values()
    starts, ends = _offsets(admin, description)
    return {
        "name": name,
        "id": str(description.topic_id),
        "internal": description.is_internal,
        "configs": {
            entry.name: entry.value
            for entry in sorted(configs.result().values(), key=lambda entry: entry.name)
            if entry.source == _DYNAMIC_TOPIC_CONFIG
        },
        "partitions": [
            {
                "partition": partition.id,
                "leader": partition.leader.id if partition.leader is not None else -1,
                "replicas": [node.id for node in partition.replicas],
                "in_sync": [node.id for node in partition.isr],
                "start_offset": starts.get(partition.id),
                "end_offset": ends.get(partition.id),
            }
            for partition in sorted(description.partitions, key=lambda partition: partition.id)
        ],
    }


def _offsets(admin: AdminClient, description: Any) -> tuple[dict[int, int], dict[int, int]]:
    """First offset and end offset by partition; a partition without a leader has none."""
    from confluent_kafka import KafkaException, TopicPartition

    library = admin_library()
    found: list[dict[int, int]] = []
    for spec in (library.OffsetSpec.earliest(), library.OffsetSpec.latest()):
        asked = {
            TopicPartition(description.name, partition.id): spec
            for partition in description.partitions
            if partition.leader is not None and partition.leader.id >= 0
        }
        offsets: dict[int, int] = {}
        for partition, future in (
            admin.list_offsets(asked, request_timeout=_TIMEOUT_S).items() if asked else ()
        ):
            try:
                offsets[partition.partition] = future.result().offset
            except KafkaException:
                continue
        found.append(offsets)
    return found[0], found[1]


def _as_text(topic: dict[str, Any]) -> str:
    partitions = topic["partitions"]
    lines = [f"Topic {topic['name']}", f"  id         {topic['id']}", f"  partitions {len(partitions)}"]
    lines += [f"  {name}={value}" for name, value in topic["configs"].items()]
    rows = [
        (
            each["partition"],
            "none" if each["leader"] < 0 else each["leader"],
            ",".join(map(str, each["replicas"])),
            ",".join(map(str, each["in_sync"])),
            "?" if each["start_offset"] is None else each["start_offset"],
            "?" if each["end_offset"] is None else each["end_offset"],
        )
        for each in partitions
    ]
    text = table(("PARTITION", "LEADER", "REPLICAS", "IN SYNC", "START", "END"), rows)
    return "\n".join((*lines, *(f"  {line}" for line in text.splitlines())))


def _report(futures: Mapping[str, Future[None]], done: str, ignored: Mapping[int, str]) -> int:
    """Waits for every topic's answer and says it; 1 if one of them failed."""
    from confluent_kafka import KafkaException

    status = 0
    for name, future in futures.items():
        try:
            future.result()
        except KafkaException as failure:
            error = failure.args[0]
            if error.code() in ignored:
                print(ignored[error.code()].format(name))
            else:
                status = 1
                print(f"barnabas topics: {name}: {explain(error)}", file=sys.stderr)
        else:
            print(done.format(name))
    return status


def _pairs(texts: Iterable[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise CommandError(
                f"--config {text}: write it as KEY=VALUE, for example --config retention.ms=60000."
            )
        found[name] = value
    return found


def _print_json(value: Any) -> None:
    import json

    print(json.dumps(value, indent=2))
