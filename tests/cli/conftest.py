"""What the tests of cli/ share: the command itself, and a broker to talk to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from contextlib import contextmanager

import pytest

TIMEOUT_S = 60


def environment(**variables):
    """The environment without settings of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BARNABAS_")}
    return kept | variables


class CommandLine:
    """`barnabas` in a process of its own, with a broker as its default."""

    def __init__(self, bootstrap_server=None):
        self.environment = environment()
        if bootstrap_server is not None:
            self.environment["BARNABAS_BOOTSTRAP_SERVER"] = bootstrap_server

    def __call__(self, *arguments, stdin=""):
        """Runs it to its end; standard output and error are text."""
        return subprocess.run(
            [sys.executable, "-m", "barnabas", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env=self.environment,
            check=False,
        )

    def done(self, *arguments, stdin=""):
        """Runs it, expects success, and gives standard output."""
        ended = self(*arguments, stdin=stdin)
        assert ended.returncode == 0, ended
        return ended.stdout

    @contextmanager
    def running(self, *arguments):
        """Runs it while the block lasts."""
        process = subprocess.Popen(
            [sys.executable, "-m", "barnabas", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            # A shell that runs the tests in its background has them ignore Ctrl-C; a person's shell does not.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()


@pytest.fixture
def command():
    """The command, without a broker."""
    return CommandLine()


@pytest.fixture(scope="session")
def apache_kafka(tmp_path_factory):
    from tests.oracle.kafka_broker import kafka_broker

    with kafka_broker(tmp_path_factory.mktemp("kafka-for-the-cli")) as kafka:
        yield kafka.bootstrap


@pytest.fixture(
    params=[pytest.param("barnabas", id="ours"), pytest.param("kafka", id="kafka", marks=pytest.mark.oracle)]
)
def barnabas(request):
    """The command with our broker behind it, and again with Apache Kafka: it is an ordinary client of both."""
    if request.param == "kafka":
        return CommandLine(request.getfixturevalue("apache_kafka"))
    return CommandLine(request.getfixturevalue("shared_broker").bootstrap_server)


@pytest.fixture
def topic_name():
    """A name that no other test has."""
    return f"topic-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def topic(barnabas, topic_name):
    """A topic of this test's own, with one partition."""
    barnabas.done("topics", "create", topic_name, "--partitions", "1")
    return topic_name
