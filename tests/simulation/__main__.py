"""`python -m tests.simulation SEED [SEED ...]`, or `--count N` new ones: simulated clusters, until one fails."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time

from tests.simulation.run import simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulate", description=__doc__)
    parser.add_argument("seeds", nargs="*", type=int, help="what decides everything that happens")
    parser.add_argument("--count", type=int, default=0, help="as many random seeds")
    parser.add_argument("--seconds", type=float, default=40.0, help="simulated seconds with faults")
    parser.add_argument("--lines", type=int, default=400, help="of the trace, when a seed fails")
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets of strings is part of what happens.
        os.execvpe(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    seeds = options.seeds or [random.SystemRandom().randrange(10**9) for _ in range(options.count or 1)]
    failed = 0
    for seed in seeds:
        start_s = time.monotonic()
        try:
            simulation = simulate(seed, seconds=options.seconds, lines=options.lines)
        except AssertionError as error:
            failed += 1
            print(f"FAILED {error}", flush=True)
            continue
        history = simulation.history
        print(
            f"seed {seed}: {len(history.acknowledged)} acknowledged, {history.reads} read, "
            f"{len(history.transactions)} transactions, {simulation.world.loop.time():.0f} s simulated, "
            f"{time.monotonic() - start_s:.1f} s",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
