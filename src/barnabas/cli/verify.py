"""Check the files of a stopped broker, of this one or of Apache Kafka, and say what is wrong with them. Nothing is changed.

Every batch is read: size, checksum, offsets, records. Beside them the indexes, producer snapshots, leader epochs, checkpoints and
transaction indexes. A note is worth knowing, and the next start deals with it; a problem means that data is lost or wrong.

Exit status: 0 no problem, 1 there are problems, 2 wrong usage, or the broker runs.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from barnabas.errors import ConfigError

if TYPE_CHECKING:
    import argparse

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("directories", metavar="DIR", nargs="+", help="a log directory, or several")
    parser.add_argument("--quiet", action="store_true", help="print problems only")


def run(options: argparse.Namespace) -> int:
    """Checks, and returns the exit status.

    Raises:
        ConfigError: A directory is in use, or none of a broker.
    """
    from barnabas.log.files import Files
    from barnabas.log.verification.directory import check_directory, is_log_directory
    from barnabas.log.verification.findings import Finding, Findings

    def tell(finding: Finding) -> None:
        if finding.is_problem or not options.quiet:
            print(finding, flush=True)

    files = Files()
    findings = Findings(tell)
    start_s = time.monotonic()
    for name in options.directories:
        path = Path(name).absolute()
        try:
            if not is_log_directory(files, path):
                raise ConfigError(f"{path} is no log directory: there is nothing of a broker in it.")
            check_directory(files, path, findings)
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not options.quiet:
        seconds = time.monotonic() - start_s
        print(
            f"{findings.partitions} partitions, {findings.segments} segments, {findings.batches} batches, "
            f"{findings.records} records, {findings.bytes_read} bytes in {seconds:.1f} s: "
            f"{findings.problems or 'no'} problem{'' if findings.problems == 1 else 's'}, "
            f"{findings.notes or 'no'} note{'' if findings.notes == 1 else 's'}"
        )
    return 1 if findings.problems else 0
