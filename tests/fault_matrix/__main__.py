"""`make fault-matrix`: a cluster of processes is hurt in every way, beside Apache Kafka 3.9 around ZooKeeper.

For each row: an ensemble of three ZooKeeper servers and three brokers are started, each in a network namespace of its own; idempotent
producers (librdkafka and Java, acks=all) write, a group reads; something is done to the cluster for a while; once it is whole again,
everything is read back and judged (history.py).

- network.py: namespaces, and what is cut between them
- systems.py: brokers and ZooKeeper as processes, ours and Apache Kafka's
- console.py: what the matrix itself asks and tells the brokers
- load.py: the clients
- history.py: the judge
- stage.py: all of these together
- rows.py: the faults
- table.py: the page

Without the right to make namespaces (Linux, root or user namespaces), all run on the loopback address, and rows that need them say so.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from barnabas.cli.local_zookeeper import ZooKeeperMissingError, find_jars
from tests.clients.programs import MissingToolError, program
from tests.fault_matrix.network import INSIDE, Loopback, Namespaces, enclosed, why_not_enclosed
from tests.fault_matrix.rows import ROWS, Row
from tests.fault_matrix.stage import Outcome, Stage, Times
from tests.fault_matrix.systems import SYSTEMS, ZOOKEEPER_VERSION, System
from tests.fault_matrix.table import Result, merged, page_with, table
from tests.oracle.kafka_jars import KAFKA_39, OracleMissingError, find_kafka_jars

_CHECKOUT = Path(__file__).resolve().parents[2]
_CACHE = _CHECKOUT / ".cache"
_CLIENTS = ("confluent-kafka", "java-3.9")
_QUICK = Times(session_s=2.0, lag_s=3.0, away_s=3.0, tick_ms=200)
_UNJUDGED = 2
_TITLES = {row.name: row.title for row in ROWS.values()}


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fault_matrix",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--rows", default=",".join(ROWS), help=f"some of {','.join(ROWS)}")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help=f"some of {','.join(SYSTEMS)}")
    parser.add_argument("--clients", default=",".join(_CLIENTS), help=f"some of {','.join(_CLIENTS)}")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--zookeepers", type=int, default=3, help="members of the ensemble")
    parser.add_argument("--quick", action="store_true", help="short sessions and short faults")
    parser.add_argument(
        "--together", action="store_true", help="all rows on one cluster, one after the other"
    )
    parser.add_argument("--page", type=Path, help="a page to put the table in, between its markers")
    parser.add_argument("--results", type=Path, help="where earlier results are kept (beside the page)")
    parser.add_argument("--keep", type=Path, help="where to leave logs and histories of what went wrong")
    parser.add_argument("--keep-all", action="store_true", help="and of what went well")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    try:
        jars = find_jars(_CACHE)
        if "kafka" in options.systems.split(","):
            find_kafka_jars(KAFKA_39)
        for client in options.clients.split(","):
            program(client)
    except (ZooKeeperMissingError, OracleMissingError, MissingToolError) as error:
        print(f"fault matrix: {error}", file=sys.stderr)
        return _UNJUDGED
    if os.environ.get(INSIDE):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        with Namespaces() as net:
            return _run(options, net, jars)
    why_not = why_not_enclosed()
    if not why_not:
        sys.stdout.flush()
        enclosed("tests.fault_matrix", arguments)
    print(f"fault matrix: {why_not}", flush=True)
    with Loopback(why_not) as net:
        return _run(options, net, jars)


def _run(options: argparse.Namespace, net: Namespaces | Loopback, jars: str) -> int:
    rows = [ROWS[name] for name in options.rows.split(",")]
    groups = [rows] if options.together else [[row] for row in rows]
    results: list[Result] = []
    for group in groups:
        for name in options.systems.split(","):
            system = SYSTEMS[name]
            title = f"{system.name} {system.version}"
            row_name = "+".join(row.name for row in group)
            if net.why_uncut and any(row.cuts or row.disk_bytes for row in group):
                rounds = [Result(row_name, title, trouble=net.why_uncut)]
            else:
                rounds = [
                    _round(options, net, jars, group, system, row_name, title) for _ in range(options.rounds)
                ]
            results.append(Result.over(rounds))
            if not options.together:
                _publish(options, results)  # each time: it takes an hour
    if not options.together:
        print(table(results, _TITLES))
    return 0 if all(result.is_good for result in results) else 1


def _round(
    options: argparse.Namespace,
    net: Namespaces | Loopback,
    jars: str,
    rows: list[Row],
    system: type[System],
    row_name: str,
    title: str,
) -> Result:
    scratch = Path(tempfile.mkdtemp(prefix="fault-matrix-"))
    keep = options.keep_all
    try:
        with Stage(
            scratch / "stage",
            net,
            system,
            times=_QUICK if options.quick else Times(),
            clients=options.clients.split(","),
            zookeepers=options.zookeepers,
            jars=jars,
            settings={key: value for row in rows for key, value in row.settings.items()},
            brokers=min(row.brokers for row in rows),
            disk_bytes=max(row.disk_bytes for row in rows),
            controller_leads=any(row.controller_leads for row in rows),
        ) as stage:
            outcome = stage.run([row.run for row in rows])
    except Exception as error:  # noqa: BLE001 - it becomes the row's result
        keep = True
        result = Result(row_name, title, trouble=f"{type(error).__name__}: {str(error).splitlines()[0]}")
        print(f"{row_name}, {title}: {error!r}", file=sys.stderr)
    else:
        result = _result(row_name, title, outcome)
        keep = keep or not outcome.verdict.is_good
        print(f"{row_name}, {title}: {_sentence(outcome)}", flush=True)
        for example in outcome.verdict.examples:
            print(f"    {example}", flush=True)
    finally:
        if keep and options.keep is not None:
            kept = options.keep / f"{system.name.replace(' ', '-')}-{row_name}-{int(time.time())}"
            shutil.copytree(scratch / "stage", kept)
            print(f"    kept in {kept}", flush=True)
        shutil.rmtree(scratch, ignore_errors=True)
    return result


def _result(row_name: str, title: str, outcome: Outcome) -> Result:
    verdict = outcome.verdict
    more = {"moved": verdict.moved, "shown and gone": verdict.vanished, "never read": verdict.skipped}
    return Result(
        row_name,
        title,
        trouble=", ".join(f"{count} {fate}" for fate, count in more.items() if count),
        rounds=1,
        acknowledged=verdict.acknowledged,
        lost=verdict.lost,
        duplicated=verdict.duplicated,
        reordered=verdict.reordered,
        longest_s=outcome.produced.longest_s,
        others_s=outcome.produced.others_s,
        unread_s=outcome.consumed.longest_s,
    )


def _sentence(outcome: Outcome) -> str:
    verdict = outcome.verdict
    return (
        f"acknowledged {verdict.acknowledged}, lost {verdict.lost}, duplicated {verdict.duplicated}, "
        f"reordered {verdict.reordered}, moved {verdict.moved}, vanished {verdict.vanished}, "
        f"skipped {verdict.skipped}, redelivered {verdict.redelivered}; no acknowledgement for "
        f"{outcome.produced.longest_s:.2f} s ({outcome.produced.others_s:.2f} s), nothing read for "
        f"{outcome.consumed.longest_s:.2f} s; {outcome.took_s:.0f} s"
    )


def _publish(options: argparse.Namespace, results: list[Result]) -> None:
    path = options.results or (
        options.page.with_suffix(".json")
        if options.page
        else _CHECKOUT / "build" / "fault-matrix" / "results.json"
    )
    found = merged(path, results)
    if options.page is not None:
        text = f"{_machine()}\n\n{table(found, _TITLES)}"
        options.page.write_text(page_with(options.page.read_text(), text))


def _machine() -> str:
    load = ", ".join(f"{each:.0f}" for each in os.getloadavg())
    day = time.strftime("%d %B %Y").lstrip("0")
    return (
        f"{day}; {os.cpu_count()} cores (load at the end {load}), {platform.system()} {platform.release().split('-')[0]}, Python "
        f"{platform.python_version()}, Apache ZooKeeper {ZOOKEEPER_VERSION}."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
