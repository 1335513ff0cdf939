"""`python -m tests.fuzz`: fuzzes a broker's sockets, or the files of its data directory, or both at the same time.

python -m tests.fuzz wire --seconds 60
python -m tests.fuzz files --seconds 60 --seed 17
python -m tests.fuzz both --seconds 3600
python -m tests.fuzz replay build/fuzz/wire-17.json
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import files, wire
from tests.fuzz.findings import Finding

FUZZERS = {"wire": wire.fuzz, "files": files.fuzz}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in (*FUZZERS, "both"):
        command = commands.add_parser(name)
        command.add_argument("--seconds", type=float, default=60)
        command.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
        command.add_argument("--save", type=Path, default=Path("build/fuzz"), help="where findings are kept")
    commands.add_parser("replay").add_argument("file", type=Path)
    options = parser.parse_args()
    # Brokers and directories go too: what a SIGTERM would leave behind. (SIGINT is ignored behind `nohup ... &`.)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        if options.command == "both":
            return _both(options)
        with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
            return _one(options, Path(directory))
    except Finding as finding:
        print(f"FOUND: {finding}", file=sys.stderr)
        return 1


def _one(options: argparse.Namespace, directory: Path) -> int:
    if options.command == "replay":
        wire.replay(directory, json.loads(options.file.read_text())["last"])
        print("nothing happens")
        return 0
    name = options.command
    print(f"{name}: seed {options.seed}, {options.seconds:g} s", flush=True)
    figures = FUZZERS[name](directory, seconds=options.seconds, seed=options.seed, save_to=options.save)
    print(f"{name}: nothing found;", *(f"{key}={value}" for key, value in figures.items()), flush=True)
    return 0


def _both(options: argparse.Namespace) -> int:
    """Each in a process of its own; the first finding ends both."""
    rest = [f"--seconds={options.seconds}", f"--seed={options.seed}", f"--save={options.save}"]
    processes = [subprocess.Popen([sys.executable, "-m", "tests.fuzz", name, *rest]) for name in FUZZERS]
    try:
        while any(process.poll() is None for process in processes) and not any(map(_failed, processes)):
            time.sleep(0.2)
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
            process.wait()
    return int(any(map(_failed, processes)))


def _failed(process: subprocess.Popen) -> bool:
    return bool(process.poll())


if __name__ == "__main__":
    sys.exit(main())
