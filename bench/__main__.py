"""`python -m bench`: Barnabas beside Apache Kafka in one run, from scratch, with the same clients; medians, spread and ratios.

Each round starts both brokers anew, in a class of durability, and takes every row on one and then on the other; the order is
swapped each round. "Times ahead" is above 1 where Barnabas is better. CPU is the broker's own, from the kernel.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path

import barnabas
import bench.rows  # noqa: F401 - registers the workloads
from bench import generator
from bench.brokers import Barnabas, Kafka
from bench.table import Table
from bench.workload import FULL, QUICK, WORKLOADS, Run, Sizes, Workload
from tests.oracle.kafka_jars import KAFKA_43

MARKS = "bench"


def begin_and_end(marks: str = MARKS) -> tuple[str, str]:
    """The comments of a page between which the table is put."""
    return f"<!-- {marks}: begin -->", f"<!-- {marks}: end -->"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each row is measured (default 3)")
    parser.add_argument(
        "--rows", default="*", help="only these: names or patterns with commas between them (small32,bulk-*)"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the rows and end")
    parser.add_argument("--only", choices=[Barnabas.name, Kafka.name], help="only this broker")
    parser.add_argument(
        "--quick", action="store_true", help="everything small: tries the bench, measures nothing"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there, too")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="put the table into this page, between its marks"
    )
    parser.add_argument(
        "--marks",
        default=MARKS,
        metavar="NAME",
        help="put it between <!-- NAME: begin --> and <!-- NAME: end --> (default bench)",
    )
    parser.add_argument(
        "--directory", type=Path, help="where the brokers have their data (default: a temporary one)"
    )
    arguments = parser.parse_args()
    # Whoever ends us ends the brokers as well, by the way of all exceptions.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # 5,000 connections, and a log of 10,000 partitions.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    patterns = arguments.rows.split(",")
    chosen = [work for work in WORKLOADS if any(fnmatch(work.name, pattern) for pattern in patterns)]
    if arguments.list or not chosen:
        print(*(work.name for work in WORKLOADS), sep="\n")
        raise SystemExit(not chosen)
    table = Table()
    started, load_before = time.time(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.directory) as directory:
        for round_index in range(arguments.rounds):
            # Alternating who begins, so that a drifting machine favours neither.
            brokers = [Barnabas, Kafka] if round_index % 2 == 0 else [Kafka, Barnabas]
            one_round(
                [make for make in brokers if arguments.only in (None, make.name)],
                [work for work in chosen if round_index < work.most_rounds],
                Path(directory) / str(round_index),
                table,
                QUICK if arguments.quick else FULL,
            )
    facts = machine(time.time() - started, load_before, arguments, table)
    text = "\n".join([*(f"- {name}: {value}" for name, value in facts.items()), "", table.markdown()])
    print(text, end="")
    if arguments.json:
        arguments.json.write_text(json.dumps({**facts, "rows": table.json()}, indent=1) + "\n")
    if arguments.write:
        put_between_marks(arguments.write, text, arguments.marks)
    if table.failed:
        raise SystemExit(1)


def one_round(makes, chosen: list[Workload], directory: Path, table: Table, sizes: Sizes) -> None:
    """Row by row on one broker and then the other, so that what is compared is measured within seconds."""
    for durability in dict.fromkeys(work.durability for work in chosen):
        works = [work for work in chosen if work.durability == durability]
        places = [directory / (durability or "own").replace(" ", "-") / make.name for make in makes]
        brokers = [
            make(place, durability) if durability else make(place, settings=make.as_shipped)
            for make, place in zip(makes, places, strict=True)
        ]
        try:
            for work in works:
                for broker, place in zip(brokers, places, strict=True):
                    one_row(work, Run(broker, durability or "", work.section, table, sizes, place))
        finally:
            for broker in brokers:
                broker.stop()
        shutil.rmtree(directory)


def one_row(work: Workload, run: Run) -> None:
    """A row that fails on one broker is said so in the result; the others go on."""
    broker = run.broker
    begun = time.monotonic()
    try:
        if work.durability and not broker.is_running:
            broker.kill()
            broker.start()
        work.measure(run)
    except Exception as error:  # noqa: BLE001 - whatever it is, an hour of other rows is worth more
        run.table.failed.append(f"{work.name} with {broker.title}: {type(error).__name__}: {error}")
        print(f"bench: {run.table.failed[-1]}", file=sys.stderr, flush=True)
        return
    seconds = time.monotonic() - begun
    print(f"bench: {work.name}, {broker.title}, {seconds:.1f} s", file=sys.stderr, flush=True)


def machine(
    seconds: float, load_before: float, arguments: argparse.Namespace, table: Table
) -> dict[str, str]:
    """What a reader must know of the machine and the run."""
    cpu = "CPU"
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    try:
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
        cpu = names[0].partition(":")[2].strip()
    except (OSError, IndexError):
        pass
    return {
        "Command": f"`make bench ARGS={shlex.quote(shlex.join(sys.argv[1:]))}`",
        "Machine": f"{len(os.sched_getaffinity(0))} cores of {cpu}, {memory_gb:.0f} GB, "
        f"Linux {platform.release()}, load {load_before:.1f} at the start"
        + (", **so others used it: take the figures for a first look**" if load_before > 1 else ""),
        "Versions": ", ".join(versions()),
        "Generator": generator.describe(),
        **({"Not measured": "; ".join(table.skipped)} if table.skipped else {}),
        **({"Failed": "; ".join(table.failed)} if table.failed else {}),
        "Run": f"{arguments.rounds} rounds in {seconds / 60:.0f} minutes, {time.strftime('%Y-%m-%d')}",
    }


def versions() -> list[str]:
    found = [f"Barnabas {barnabas.__version__}", f"Python {platform.python_version()}"]
    found += [f"{name} {version(name)}" for name in ("uvloop", "crc32c", "confluent-kafka")]
    if shutil.which("java"):
        java = subprocess.run(["java", "-version"], check=True, capture_output=True, text=True).stderr
        found += [f"Apache Kafka {KAFKA_43}", *java.splitlines()[:1]]
    return found


def put_between_marks(page: Path, text: str, marks: str = MARKS) -> None:
    first, last = begin_and_end(marks)
    before, begin, rest = page.read_text().partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end):
        raise SystemExit(f"bench: {page} has no {first} and {last}")
    page.write_text(f"{before}{begin}\n\n{text}\n{end}{after}")


if __name__ == "__main__":
    main()
