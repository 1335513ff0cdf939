from __future__ import annotations

import json
import re
import signal
import socket

import pytest

from barnabas import __version__
from barnabas.cli import command_parser, main
from barnabas.cli.process import age_ms, raise_open_files_limit
from barnabas.cli.serve import listener, ready_line, settings
from barnabas.config.broker import BrokerConfig
from barnabas.errors import ConfigError
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from tests.broker_process import BrokerProcess
from tests.ports import free_ports
from tests.wire_client import WireClient


def options(*words):
    return command_parser("serve").parse_args(words)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("localhost:9092", "PLAINTEXT://localhost:9092"),
        (":9092", "PLAINTEXT://:9092"),
        ("9092", "PLAINTEXT://localhost:9092"),
        ("0.0.0.0:0", "PLAINTEXT://0.0.0.0:0"),
        ("[::1]:9092", "PLAINTEXT://[::1]:9092"),
    ],
)
def test_an_address_to_listen_at(address, expected):
    """HOST:PORT, :PORT and PORT are understood."""
    assert listener(address) == expected


@pytest.mark.parametrize("address", ["", "localhost", "localhost:", "localhost:x", "::1:9092", "a:65536"])
def test_an_address_that_is_none(address):
    """Anything else is refused with an example."""
    with pytest.raises(ConfigError, match="--listen localhost:9092"):
        listener(address)


def test_options_are_settings():
    """Every option has a key behind it, and counts over --set."""
    found = settings(
        options(
            *(
                "--listen",
                "9093",
                "--data-dir",
                "/d",
                "--node-id",
                "7",
                "--log-format",
                "json",
                "--log-level",
                "debug",
            ),
            *("--set", "node.id=5", "--set", "num.partitions = 3", "--set", "broker.rack=a=b"),
        )
    )
    assert found == {
        "listeners": "PLAINTEXT://localhost:9093",
        "log.dirs": "/d",
        "node.id": "7",
        "barnabas.log.format": "json",
        "barnabas.log.level": "debug",
        "num.partitions": "3",
        "broker.rack": "a=b",
    }
    assert settings(options()) == {}


def test_the_ready_line_says_what_one_needs():
    """Version, addresses, data directory, node and the time it took, for eyes and for programs."""
    addresses = [("localhost", 9092), ("::1", 1), ("", 2)]
    line = ready_line(addresses, BrokerConfig({"log.dirs": "/a b"}))
    assert re.fullmatch(
        rf'Barnabas is ready: version={__version__} address=localhost:9092,\[::1\]:1,0\.0\.0\.0:2 data="/a b" node=1 start_ms=\d+',
        line,
    )
    fields = json.loads(ready_line(addresses, BrokerConfig({"barnabas.log.format": "json", "log.dirs": "x"})))
    assert fields["event"] == "ready"
    assert fields["address"] == "localhost:9092,[::1]:1,0.0.0.0:2"
    assert fields["data"].startswith("/")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--set", "nonsense"), "write it as KEY=VALUE"),
        (("--set", "log.retention.hour=1"), "did you mean log.retention.hours?"),
        (("--set", "num.partitions=0"), "Value must be at least 1"),
        (("--listen", "here"), "write it as HOST:PORT"),
        (("--node-id", "one"), "Not a number of type INT"),
        (("--config", "/nowhere/server.properties"), "/nowhere/server.properties cannot be read"),
        (("--set", "zookeeper.metadata.migration.enable=true"), "is not taken over; remove the key"),
        (("--set", "log.retention.ms=0"), "log.retention.ms must be"),
    ],
)
def test_a_wrong_setting_is_one_sentence(words, complaint, capsys, monkeypatch):
    """Nothing starts, the status is 2, and one line says what to change."""
    monkeypatch.setattr("os.environ", {})
    assert main(["serve", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("barnabas serve: ")
    assert complaint in captured.err
    assert captured.err.count("\n") == 1


def test_a_wrong_option_is_wrong_usage(capsys):
    """Options are spelt out, and unknown ones are refused."""
    for words in (["--lis", "9092"], ["--nonsense"], ["stray"]):
        with pytest.raises(SystemExit) as ended:
            main(["serve", *words])
        assert ended.value.code == 2
    assert "usage: barnabas serve" in capsys.readouterr().err


def test_the_process_knows_its_age():
    """Start times are measured from the start of the process."""
    first = age_ms()
    assert 0 < first <= age_ms() < 3_600_000


def test_the_limit_of_open_files_only_rises():
    """The soft limit becomes the hard one."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        limit = raise_open_files_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (limit, before[1])
        assert limit >= before[0] or limit >= 1_048_576
        assert raise_open_files_limit() == limit
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def first_line(process):
    line = process.stdout.readline()
    if not line:
        pytest.fail(process.communicate()[1])
    return line


def stopped(process):
    """Stops it in order and gives the log."""
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    return err


def test_it_serves_every_address_of_localhost(command, tmp_path):
    """One ready line, the port that was taken in it, all addresses of the name answer, SIGTERM ends it with 0."""
    with command.running("serve", "--listen", "localhost:0", "--data-dir", str(tmp_path / "data")) as process:
        found = re.search(r"address=localhost:(\d+) data=(\S+) node=1 start_ms=(\d+)", first_line(process))
        port = int(found[1])
        assert found[2] == str(tmp_path / "data")
        for family, kind, _, _, address in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM):
            with socket.socket(family, kind) as client:
                client.connect(address)
        log = stopped(process)
    assert "level=error" not in log
    assert "Traceback" not in log
    assert all(line.startswith("time=") for line in log.splitlines())


def test_a_server_properties_of_kafka_starts_a_broker(command, tmp_path):
    """What the file of a combined KRaft node says is understood; the controller's listener is not opened."""
    port, controller_port = free_ports(2)
    file = tmp_path / "server.properties"
    file.write_text(f"""
# The Apache Kafka way: one node that is broker and controller.
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:{port},CONTROLLER://localhost:{controller_port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs={tmp_path / "kraft-combined-logs"}
num.partitions=1
num.recovery.threads.per.data.dir=2
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.flush.interval.messages=10000
log.flush.interval.ms=1000
log.retention.hours=168
log.retention.bytes=1073741824
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
group.initial.rebalance.delay.ms=0
""")
    with command.running("serve", "--config", str(file)) as process:
        assert f"address=127.0.0.1:{port} data={tmp_path}/kraft-combined-logs" in first_line(process)
        socket.create_connection(("127.0.0.1", port)).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", controller_port))
        log = stopped(process)
    assert "level=error" not in log
    assert "Traceback" not in log


def test_settings_without_effect_are_said_once(command, tmp_path):
    """A setting that changes nothing is warned about, in one line for all."""
    words = ["--log-format", "json", "--set", "num.io.threads=3", "--set", "ssl.protocol=TLSv1.2"]
    words += ["--set", "inter.broker.protocol.version=3.9"]
    with command.running("serve", "--listen", "localhost:0", "--data-dir", str(tmp_path), *words) as process:
        assert json.loads(first_line(process))["event"] == "ready"
        lines = [json.loads(line) for line in stopped(process).splitlines()]
    warnings = [line["event"] for line in lines if line["level"] == "warning"]
    assert "set, but without effect in this version: num.io.threads, ssl.protocol" in warnings
    assert any("inter.broker.protocol.version" in warning for warning in warnings)


def test_a_port_in_use_is_one_sentence(command, tmp_path):
    """The port is named, the remedy too, and no data directory is left behind."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = command("serve", "--listen", f"127.0.0.1:{port}", "--data-dir", str(tmp_path / "data"))
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("barnabas serve: ")
    assert str(port) in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_directory_that_cannot_be_used_is_one_sentence(command, tmp_path):
    """The directory is named."""
    (tmp_path / "file").write_text("in the way")
    ended = command("serve", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "file" / "data"))
    assert ended.returncode == 2
    assert str(tmp_path / "file") in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_metadata_log_that_cannot_be_used_is_one_sentence(command, tmp_path):
    """The directory and the reason are named; it is the disk's fault, not the command line's."""
    (tmp_path / "file").write_text("in the way")
    words = ["--data-dir", str(tmp_path / "data"), "--set", f"metadata.log.dir={tmp_path / 'file'}"]
    ended = command("serve", "--listen", "127.0.0.1:0", *words)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(f"barnabas serve: cannot read the metadata log in {tmp_path / 'file'}")
    assert "let this user read and write it" in ended.stderr


def test_a_broker_that_finds_no_usable_log_does_not_get_ready(command, tmp_path):
    """When recovery takes the last directory offline, the start fails with the reason."""
    with BrokerProcess(tmp_path) as broker, WireClient(broker.bootstrap_server) as client:
        topic = CreateTopicsRequest.CreatableTopic(name="orders", num_partitions=1, replication_factor=1)
        assert (
            client.call(CreateTopicsRequest(topics=[topic], timeout_ms=10_000), 5).topics[0].error_code == 0
        )
    batches = tmp_path / "data" / "orders-0" / "00000000000000000000.log"
    batches.unlink(missing_ok=True)
    batches.mkdir()
    ended = command("serve", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data"))
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    sentence = ended.stderr.splitlines()[-1]
    assert sentence.startswith(
        f"barnabas serve: every log directory is offline, at last {tmp_path / 'data'} ("
    )
    assert sentence.endswith("or mend the disk.")


def test_a_file_of_the_controllers_listener_alone_is_one_sentence(command, tmp_path):
    """A node that would serve nobody is told what is missing."""
    words = ["--set", "listeners=CONTROLLER://127.0.0.1:0"]
    words += ["--set", "listener.security.protocol.map=CONTROLLER:PLAINTEXT"]
    ended = command("serve", "--data-dir", str(tmp_path / "data"), *words)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "add one for clients" in ended.stderr


def test_a_directory_of_another_broker_is_one_sentence(command, tmp_path):
    """Two brokers never write the same data."""
    with command.running("serve", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path)) as process:
        first_line(process)
        ended = command("serve", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path))
        stopped(process)
    assert ended.returncode == 2
    assert str(tmp_path) in ended.stderr
    assert ended.stderr.count("\n") == 1
