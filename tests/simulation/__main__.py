"""`python -m tests.simulation SEED [SEED ...]`, or `--count N` of them: simulated clusters, each from one seed.

Ends with 1 where a seed failed, having said which, why, what happened before, and how to repeat it.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import random
import sys
import time
import traceback

from tests.simulation.run import simulate

FEWER_COLLECTIONS = 50_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="simulate", description=__doc__)
    parser.add_argument("seeds", nargs="*", type=int, help="what decides everything that happens")
    parser.add_argument("--count", type=int, default=0, help="how many seeds, if none is named: random ones")
    parser.add_argument(
        "--first", type=int, default=None, help="of the seeds; those that follow it are the next ones"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="simulated seconds with faults")
    parser.add_argument("--lines", type=int, default=400, help="of the trace, when a seed fails")
    parser.add_argument("--jobs", type=int, default=1, help="processes that work on it")
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets of strings is part of what happens.
        os.execvpe(
            sys.executable,
            [sys.executable, "-m", "tests.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    count = options.count or 1
    first = options.first
    if first is None:
        seeds = options.seeds or [random.SystemRandom().randrange(10**9) for _ in range(count)]
    else:
        seeds = range(first, first + count)
    start_s = time.monotonic()
    totals = dict.fromkeys(("acknowledged", "read", "transactions", "faults", "simulated s", "cpu s"), 0)
    failed = []
    tasks = [(seed, options.seconds, options.lines) for seed in seeds]
    # A process for each: what is left of one world, and collected later, must not get into the next.
    with multiprocessing.Pool(max(1, min(options.jobs, len(tasks))), maxtasksperchild=1) as pool:
        for seed, text, counts in pool.imap_unordered(run_one, tasks, chunksize=1):
            print(text, flush=True)
            if counts is None:
                failed.append(seed)
                continue
            for name, value in counts.items():
                totals[name] += value
    sums = ", ".join(f"{value:,.0f} {name}" for name, value in totals.items())
    print(
        f"{len(tasks)} seeds in {time.monotonic() - start_s:.0f} s, {len(failed)} failed; {sums}", flush=True
    )
    for seed in failed:
        print(f"repeat with: make simulate SEED={seed} ARGS='--seconds {options.seconds:g}'")
    return 1 if failed else 0


def run_one(task):
    """Seed, what to tell, and counts by name, None where it failed."""
    seed, seconds, lines = task
    gc.set_threshold(FEWER_COLLECTIONS, 10, 10)
    start_s = time.process_time()
    try:
        simulation = simulate(seed, seconds=seconds, lines=lines)
    except AssertionError as error:
        return seed, f"FAILED {error}", None
    except BaseException:  # noqa: BLE001 - the other seeds go on
        return seed, f"FAILED seed {seed}: {traceback.format_exc()}", None
    history = simulation.history
    counts = {
        "acknowledged": len(history.acknowledged),
        "read": history.reads,
        "transactions": len(history.transactions),
        "faults": simulation.faults.count,
        "simulated s": simulation.world.loop.time(),
        "cpu s": time.process_time() - start_s,
    }
    parts = ", ".join(
        f"{value:.1f} {name}" if isinstance(value, float) else f"{value} {name}"
        for name, value in counts.items()
    )
    return seed, f"seed {seed}: {parts}", counts


if __name__ == "__main__":
    sys.exit(main())
