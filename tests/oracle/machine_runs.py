"""Runs of Hypothesis state machines that send the same random steps to Apache Kafka and to a broker.

A few fixed examples unless `BARNABAS_DIFFERENTIAL_EXAMPLES` says how many (`make differential`): then with a new seed each time.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis.internal.conjecture import engine
from hypothesis.stateful import run_state_machine_as_test

EXAMPLES = int(os.environ.get("BARNABAS_DIFFERENTIAL_EXAMPLES", "0"))
DEADLINE_S = 0 if EXAMPLES else 600
"""For `pytest.mark.timeout`; 0 is none."""


def steps(usual):
    """How many steps an example has at the most."""
    return int(os.environ.get("BARNABAS_DIFFERENTIAL_STEPS", str(usual)))


def run_machine(machine, monkeypatch, *, examples, step_count):
    """`examples` of them, unless the environment says how many."""
    # The default of five minutes is for shrinking without brokers.
    monkeypatch.setattr(engine, "MAX_SHRINKING_SECONDS", 60)
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES or examples,
            stateful_step_count=step_count,
            deadline=None,
            database=None,
            derandomize=not EXAMPLES,
            print_blob=True,
            report_multiple_bugs=False,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
