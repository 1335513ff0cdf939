"""`python -m tests.soak --seconds 3600`: mixed load, watched for losses and leaks."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from tests.fuzz.findings import Finding
from tests.soak.soak import soak

SAMPLES = 60


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--interval", type=float, help="seconds between samples (default: 60 samples)")
    options = parser.parse_args()
    print(f"soak: seed {options.seed}, {options.seconds:g} s", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the broker and its directory go too
    interval_s = options.interval or max(5.0, options.seconds / SAMPLES)
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        try:
            figures = soak(Path(directory), seconds=options.seconds, seed=options.seed, interval_s=interval_s)
        except Finding as finding:
            print(f"FOUND: {finding}", file=sys.stderr)
            return 1
    print("soak: nothing found;", *(f"{key}={value}" for key, value in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
