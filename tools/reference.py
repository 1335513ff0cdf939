"""Writes docs/reference from the code: settings, APIs, differences, limits, metrics, commands.

    python -m tools.reference           writes the pages
    python -m tools.reference --check   says which pages are not up to date, and fails if any is

A test does the same check, so that a key, an API, a metric, a command or an option that is not documented fails the suite.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from barnabas.cli import COMMANDS, command_parser
from barnabas.config.definition import READ_ONLY, ConfigType, to_text
from barnabas.config.group import GROUP_KEYS, GROUP_SYNONYMS
from barnabas.config.keys import BROKER_KEYS
from barnabas.config.removed import REMOVED
from barnabas.config.topic import TOPIC_KEYS, TOPIC_SYNONYMS
from barnabas.handlers.registry import HANDLERS, announced_versions
from barnabas.metadata.features import INITIAL_FEATURES
from barnabas.metrics import METRICS
from barnabas.wire.apis import APIS
from tools.differences import BEHAVIOUR, FEATURES, FIELDS, ORDERS, WORDS
from tools.kafka_apis import ANNOUNCED, why_absent, why_different
from tools.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from barnabas.config.definition import ConfigKey
    from barnabas.metrics import Metric

__all__ = ["PAGES", "main", "stale"]

ROOT = Path(__file__).resolve().parents[1]
DIRECTORY = ROOT / "docs" / "reference"

NOTE = "<!-- Written by tools/reference.py from the code; change it there. -->"

# The pages of broker keys, in their order: module of config/keys and heading.
_CONCERNS = {
    "own": "Our own",
    "node": "The node",
    "network": "Listeners and connections",
    "log": "Logs",
    "compaction": "Compaction",
    "replication": "Replication",
    "group": "Classic groups and offsets",
    "groups_on_the_broker": "Consumer, share and streams groups",
    "transaction": "Producer ids and transactions",
    "controller": "Controller and metadata",
    "zookeeper": "ZooKeeper",
    "security": "Security",
    "quota": "Quotas and measuring",
    "tiered": "Tiered storage",
}

_CHANGES = {READ_ONLY: "at start", "per-broker": "per broker", "cluster-wide": "any time"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the pages, or with --check only compares them; the exit status is 1 if a page was not up to date then."""
    parser = argparse.ArgumentParser(prog="python -m tools.reference", description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing, fail if a page is not up to date"
    )
    options = parser.parse_args(arguments)
    old = stale()
    if options.check:
        for name in old:
            print(f"docs/reference/{name} is not up to date: run python -m tools.reference", file=sys.stderr)
        return 1 if old else 0
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name in old:
        (DIRECTORY / name).write_text(PAGES[name](), encoding="utf-8")
        print(f"docs/reference/{name}")
    return 0


def stale() -> list[str]:
    """The names of the pages that are not what the code says."""
    return [name for name, page in PAGES.items() if _read(DIRECTORY / name) != page()]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


# ----- settings


def configuration() -> str:
    """Broker keys."""
    lines = [
        "# Broker configuration",
        NOTE,
        _BROKER_INTRODUCTION.strip(),
    ]
    concerns = {name: importlib.import_module(f"barnabas.config.keys.{name}").KEYS for name in _CONCERNS}
    assert sum(map(len, concerns.values())) == len(BROKER_KEYS), "a module of config/keys has no heading"
    for name, keys in concerns.items():
        effective = [key for key in keys if key.effective]
        if effective:
            lines += [f"## {_CONCERNS[name]}", _broker_table(effective)]
    lines += [
        "## Where we differ from Kafka",
        "The same names with another default or meaning, and why.",
        _table(
            ("Key", "Here", "Kafka", "Why"),
            _differing_keys(),
        ),
        "## Without effect in this version",
        (
            "These keys are known: their values are checked, `DescribeConfigs` shows them, and a start with one of them set logs a "
            "warning. They change nothing yet."
        ),
    ]
    for name, keys in concerns.items():
        idle = [key for key in keys if not key.effective]
        if idle:
            lines += [f"### {_CONCERNS[name]}", _broker_table(idle)]
    lines += [
        "## Keys of former versions",
        (
            "Kafka 4 has these no more. Some stop the start, because what they ask for is not done; the others are ignored with "
            "a warning."
        ),
        _table(
            ("Key", "Start", "Remedy"),
            [
                (f"`{name}`", "refused" if gone.refused else "goes on", gone.remedy)
                for name, gone in REMOVED.items()
            ],
        ),
    ]
    return _page(lines)


def topic_configuration() -> str:
    """Topic keys."""
    lines = [
        "# Topic configuration",
        NOTE,
        (
            "A topic's own value comes first, then the broker's value of the key beside it, then the default. Own values are set "
            "when the topic is created (`barnabas topics create orders --config retention.ms=60000`) or later by any Kafka "
            "client; they take effect at once."
        ),
        _fallback_table(
            TOPIC_KEYS.values(), {name: names[0] for name, names in TOPIC_SYNONYMS.items()}, effective=True
        ),
        "## Without effect in this version",
        (
            "Their values are checked and kept. They change nothing yet. As there is no remote storage, `remote.storage.enable=true` is "
            "refused, and so is any `local.retention.ms` or `local.retention.bytes` but -2: set `retention.ms` or `retention.bytes`."
        ),
        _fallback_table(
            TOPIC_KEYS.values(), {name: names[0] for name, names in TOPIC_SYNONYMS.items()}, effective=False
        ),
    ]
    return _page(lines)


def group_configuration() -> str:
    """Group keys."""
    effective = any(key.effective for key in GROUP_KEYS.values())
    lines = [
        "# Group configuration",
        NOTE,
        (
            "A group's own value comes first, then the broker's value of the key beside it, then the default. Own values are set by "
            "any Kafka client, within the bounds that the broker's `min` and `max` keys set."
        ),
    ]
    if effective:
        lines += [_fallback_table(GROUP_KEYS.values(), GROUP_SYNONYMS, effective=True)]
    if not all(key.effective for key in GROUP_KEYS.values()):
        lines += [
            "## Without effect in this version",
            "Their values are checked and kept. They change nothing yet.",
            _fallback_table(GROUP_KEYS.values(), GROUP_SYNONYMS, effective=False),
        ]
    return _page(lines)


_BROKER_INTRODUCTION = """
Names and meanings are Apache Kafka's, except for those that begin with `barnabas.`. A setting comes from the first of these
places that has it:

| Place | Example |
| --- | --- |
| set while the broker runs, for it alone, then for all brokers | `kafka-configs --alter --add-config log.retention.ms=60000 ...` |
| command line | `barnabas serve --set log.retention.hours=24` |
| environment | `BARNABAS_LOG_RETENTION_HOURS=24`; our own keys without the second `BARNABAS_`: `BARNABAS_DURABILITY=page-cache` |
| file | `barnabas serve --config server.properties` with a line `log.retention.hours=24` |

A key that nobody knows stops the start, and the nearest known one is named. Where one time has keys in milliseconds,
minutes and hours, the finest unit counts within a place.

"Change" says when a key may change: at start only, for one broker while it runs (per broker), or for one or all of them
(any time).
"""


def _broker_table(keys: Iterable[ConfigKey]) -> str:
    return _table(
        ("Key", "Type", "Default", "Range", "Change", "What it does"),
        [
            (
                f"`{key.name}`",
                _type(key),
                _default(key.default),
                _range(key),
                _CHANGES[key.scope],
                key.sentence,
            )
            for key in keys
        ],
    )


def _fallback_table(keys: Iterable[ConfigKey], synonyms: dict[str, str], *, effective: bool) -> str:
    return _table(
        ("Key", "Type", "Default", "Range", "Broker key", "What it does"),
        [
            (
                f"`{key.name}`",
                _type(key),
                _default(key.default),
                _range(key),
                f"`{synonyms[key.name]}`" if key.name in synonyms else "",
                key.sentence,
            )
            for key in keys
            if key.effective is effective
        ],
    )


def _type(key: ConfigKey) -> str:
    return key.type.name.lower() + (", internal" if key.internal else "")


def _range(key: ConfigKey) -> str:
    text = "" if key.validator is None else key.validator.text
    return "" if text == "list" and key.type is ConfigType.LIST else text


def _default(value: object) -> str:
    text = to_text(value)
    if text is None:
        return ""
    return f"`{text}`" if text else "empty"


# ----- APIs


def apis() -> str:
    """The requests that are answered."""
    served, absent, internal, notes = [], [], [], []
    announced = announced_versions()
    for key, api in sorted(APIS.items()):
        if "broker" not in api.listeners:
            continue
        theirs = _versions(*ANNOUNCED[key]) if key in ANNOUNCED else "none"
        entry = HANDLERS.get(key)
        if entry is None:
            if key in ANNOUNCED:
                absent.append((key, api.name, theirs, why_absent(key)))
            else:
                internal.append((key, api.name))
            continue
        does, omitted = _handler_docstring(entry.module)
        served.append(
            (key, api.name, _versions(*announced[key]), theirs, does, why_different(key, announced[key]))
        )
        if omitted:
            notes.append(f"- **{api.name}**: {omitted}")
    lines = [
        "# APIs",
        NOTE,
        (
            "Every request of Apache Kafka's protocol that clients may send to a broker: the versions that ApiVersions announces here "
            "and in Apache Kafka 4.3 with its default settings."
        ),
        "## Served",
        _table(("Key", "API", "Here", "Kafka 4.3", "What it does", "Why the versions differ"), served),
    ]
    if notes:
        lines += ["### Deliberately not done", "\n".join(notes)]
    if absent:
        lines += [
            "## Not served",
            "ApiVersions does not name them, so clients know; a request of one of them closes the connection.",
            _table(("Key", "API", "Kafka 4.3", "Why not"), absent),
        ]
    if internal:
        lines += [
            "## Not for clients",
            "Neither we nor Apache Kafka announce these to clients.",
            _table(("Key", "API"), internal),
        ]
    return _page(lines)


def _versions(lowest: int, highest: int) -> str:
    return str(lowest) if lowest == highest else f"{lowest}-{highest}"


def _handler_docstring(module: str) -> tuple[str, str]:
    """What a handler does and what it leaves out, from its docstring, without importing it."""
    path = ROOT / "src" / "barnabas" / "handlers" / f"{module}.py"
    if not path.exists():
        return "", ""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraphs = [" ".join(paragraph.split()) for paragraph in docstring.split("\n\n")]
    _, _, does = paragraphs[0].partition(": ")
    omitted = next((text for text in paragraphs if text.startswith("Deliberately not done")), "")
    return does[:1].upper() + does[1:], omitted.partition(": ")[2]


# ----- differences


def differences() -> str:
    """What is not as in Apache Kafka, on purpose."""
    lines = [
        "# Differences from Apache Kafka",
        NOTE,
        (
            "What differs from Apache Kafka 4.3 on purpose, and why. Whatever else differs is a mistake: the tests send both the same "
            "requests, chosen and random ones (`make differential`), and compare every field of every answer but those at the end of "
            "this page. What is not built yet stands in [Architecture](../ARCHITECTURE.md#left-out-for-now), and API by API in "
            "[APIs](apis.md)."
        ),
    ]
    for concern, rows in BEHAVIOUR.items():
        lines += [f"## {concern}", _table(("What", "Kafka", "Here", "Why"), rows)]
    lines += [
        "## Settings",
        "The same names with another default or meaning.",
        _table(("Key", "Here", "Kafka", "Why"), _differing_keys()),
        "## Features",
        (
            "The level of each feature in a new cluster. What has none here is not built yet, and clients that look at the level "
            "do without it. `kafka-features.sh upgrade --release-version` names all of them, and is refused: name those that are wanted "
            "(`--feature group.version=1`)."
        ),
        _table(("Feature", "Here", "Kafka"), _differing_features()),
        "## What the tests do not compare",
        "Fields that no two brokers can have in common:",
        _table(("Field", "Why"), [(f"`{name}`", why) for name, why in FIELDS.items()]),
        "Words:",
        _table(("Text", "Whose words"), [(f"`{name}`", whose) for name, whose in WORDS.items()]),
        "Lists whose elements are compared without their order:",
        _table(("List", "Why"), [(f"`{name}`", why) for name, why in ORDERS.items()]),
    ]
    return _page(lines)


def _differing_keys() -> list[tuple[str, ...]]:
    return [
        (f"`{key.name}`", _default(key.default), _default(key.kafka_default), key.differs)
        for key in BROKER_KEYS.values()
        if key.differs
    ]


def _differing_features() -> list[tuple[str, ...]]:
    return [
        (f"`{name}`", str(INITIAL_FEATURES.get(name, "none")), str(level))
        for name, level in FEATURES.items()
        if INITIAL_FEATURES.get(name) != level
    ]


# ----- limits


def limits() -> str:
    """What keeps memory flat."""
    lines = [
        "# Limits",
        NOTE,
        (
            "Everything that a client can make grow in a broker, and what stops it. `make soak` counts every object and container of a "
            "broker under load and fails when one of them grows. Which of these to set, and when: "
            "[limits, and what happens at them](../how-to/limits.md)."
        ),
    ]
    for concern, rows in LIMITS.items():
        table = [
            (
                limit.what[:1].upper() + limit.what[1:],
                "; ".join(_bound(by) for by in limit.by),
                limit.at_the_limit,
                f"`{limit.held_in.partition(':')[0].replace('.', '/')}.py`, `{limit.held_in.partition(':')[2]}`",
            )
            for limit in rows
        ]
        lines += [f"## {concern}", _table(("What", "Limit", "At the limit", "In the source"), table)]
    return _page(lines)


def _bound(by: str) -> str:
    """A key with its default, or a constant's value."""
    if by in BROKER_KEYS:
        default = BROKER_KEYS[by].default
        if default not in ((), "", -1, 2**31 - 1):
            return f"`{by}` ({_default(default)})"
        return f"`{by}` (none)"
    module, _, name = by.partition(":")
    return f"{getattr(importlib.import_module(f'barnabas.{module}'), name):,}"


# ----- metrics


def metrics() -> str:
    """What is counted."""
    lines = [
        "# Metrics",
        NOTE,
        (
            "`barnabas serve --set barnabas.metrics.port=9404` serves them at `http://localhost:9404/metrics` for Prometheus. The names "
            "are those of Kafka's JMX exporter, so that dashboards made for Kafka show them."
        ),
        _table(("Metric", "Type", "Labels", "What it is"), [_metric_row(metric) for metric in METRICS]),
        (
            "What clients push (KIP-714) is shown beside these as `kafka_client_...`, for example "
            "`kafka_client_producer_connection_creation_total`, with the labels `client_id`, `client_instance_id`, "
            "`client_software_name`, `client_software_version` and `client_source_address`; see "
            "[metrics](../how-to/metrics.md)."
        ),
    ]
    return _page(lines)


def _metric_row(metric: Metric) -> tuple[str, ...]:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return (
        f"`{metric.name}`",
        metric.type,
        f"{labels}; and their sum" if metric.has_total else labels,
        metric.sentence,
    )


# ----- commands


def cli() -> str:
    """The command line."""
    lines = [
        "# Command line",
        NOTE,
        "Exit status: 0 done, 1 failed, 2 wrong usage or settings. Failures are one sentence on standard error.",
        _table(
            ("Command", "What it does"),
            [(f"`barnabas {name}`", command.sentence) for name, command in COMMANDS.items()],
        ),
    ]
    for name in COMMANDS:
        lines += _parser_lines(command_parser(name), "##")
    return _page(lines)


def _parser_lines(parser: argparse.ArgumentParser, level: str) -> list[str]:
    lines = [f"{level} {parser.prog}", _description(parser.description or "")]
    options: list[tuple[str, str]] = []
    nested: list[argparse.ArgumentParser] = []
    for action in parser._actions:  # noqa: SLF001 - argparse offers no other way to its options
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - likewise
            nested += dict.fromkeys(action.choices.values())
        elif not isinstance(action, argparse._HelpAction):  # noqa: SLF001 - likewise
            options.append((f"`{_spelling(action)}`", _help(action)))
    if options:
        lines.append(_table(("Option", "What it does"), options))
    for each in nested:
        lines += _parser_lines(each, level + "#")
    return lines


def _spelling(action: argparse.Action) -> str:
    values = "\\|".join(map(str, action.choices)) if action.choices else action.metavar
    if not action.option_strings:
        return f"{values} ..." if action.nargs in {"+", "*"} else str(values)
    name = ", ".join(action.option_strings)
    return name if action.nargs == 0 else f"{name} {values}"


def _help(action: argparse.Action) -> str:
    text = action.help or ""
    return text[:1].upper() + text[1:] + "."


def _description(text: str) -> str:
    """Paragraphs as they are; indented lines are examples."""
    out: list[str] = []
    for line in text.strip().splitlines():
        if line.startswith("  ") and (not out or not out[-1].startswith("    ")) and out and out[-1]:
            out.append("")
        out.append(f"    {line.strip()}" if line.startswith("  ") else line)
    return "\n".join(out)


# ----- Markdown


def _table(headings: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    lines: list[Iterable[object]] = [headings, ["---"] * len(headings), *rows]
    return "\n".join(
        "|" + "|".join(f" {cell} " if cell != "" else " " for cell in line) + "|" for line in lines
    )


def _page(blocks: Iterable[str]) -> str:
    return "\n\n".join(blocks) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "configuration.md": configuration,
    "topic-configuration.md": topic_configuration,
    "group-configuration.md": group_configuration,
    "apis.md": apis,
    "differences.md": differences,
    "limits.md": limits,
    "metrics.md": metrics,
    "cli.md": cli,
}
"""What writes each page."""


if __name__ == "__main__":
    raise SystemExit(main())
