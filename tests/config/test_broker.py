from __future__ import annotations

import pytest

from barnabas.config.broker import BrokerConfig
from barnabas.config.definition import Password
from barnabas.config.topic import TOPIC_KEYS
from barnabas.errors import ConfigError


def load(tmp_path, text="", environ=None, **settings):
    file = tmp_path / "server.properties"
    file.write_text(text)
    return BrokerConfig.load(file, environ or {}, {k.replace("_", "."): v for k, v in settings.items()})


def test_values_are_typed():
    """A value has the type of its key: bool, int, float, tuple, text, secret."""
    config = BrokerConfig(
        {
            "auto.create.topics.enable": "FALSE",
            "log.segment.bytes": " 2097152 ",
            "log.cleaner.min.cleanable.ratio": "0.25",
            "log.cleanup.policy": "compact, delete",
            "broker.rack": "a",
            "ssl.key.password": "secret",
        }
    )
    assert config["auto.create.topics.enable"] is False
    assert config["log.segment.bytes"] == 2_097_152
    assert config["log.cleaner.min.cleanable.ratio"] == 0.25
    assert config["log.cleanup.policy"] == ("compact", "delete")
    assert config["broker.rack"] == "a"
    assert config["ssl.key.password"] == Password("secret")
    assert "secret" not in repr(config["ssl.key.password"])


def test_command_line_beats_environment_beats_file_beats_default(tmp_path):
    """The nearer a setting stands to the command, the more it counts."""
    text = "num.partitions=2\ndefault.replication.factor=2\nfetch.max.bytes=2048\n"
    environ = {"BARNABAS_NUM_PARTITIONS": "3", "BARNABAS_FETCH_MAX_BYTES": "4096"}
    config = load(tmp_path, text, environ, num_partitions="4")
    assert config["num.partitions"] == 4
    assert config["fetch.max.bytes"] == 4096
    assert config["default.replication.factor"] == 2
    assert config["offset.metadata.max.bytes"] == 4096
    assert config.origin("num.partitions") == "--set"
    assert config.origin("fetch.max.bytes") == "environment"
    assert config.origin("default.replication.factor").endswith("server.properties")
    assert config.origin("offset.metadata.max.bytes") == "default"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 168 * 3_600_000),
        ({"log.retention.hours": "2"}, 7_200_000),
        ({"log.retention.hours": "2", "log.retention.minutes": "3"}, 180_000),
        ({"log.retention.hours": "2", "log.retention.minutes": "3", "log.retention.ms": "4"}, 4),
        ({"log.retention.hours": "-1"}, -1),
        ({"log.retention.minutes": "-1"}, -1),
        ({"log.retention.ms": "-7"}, -1),
    ],
)
def test_milliseconds_beat_minutes_beat_hours(settings, expected):
    """Of several names of one time the finest unit counts, and every negative time means for ever."""
    assert BrokerConfig(settings)["log.retention.ms"] == expected


def test_a_nearer_layer_beats_a_finer_unit(tmp_path):
    """Hours on the command line count although the file has milliseconds."""
    config = load(tmp_path, "log.retention.ms=5\nlog.dirs=/a,/b\n", log_retention_hours="1", log_dir="/c")
    assert config["log.retention.ms"] == 3_600_000
    assert config["log.dirs"] == ("/c",)
    assert config.origin("log.retention.ms") == "default"


def test_other_fallbacks_among_names():
    """Roll, flush, data and metadata directories and the node's number fall back as in Kafka."""
    config = BrokerConfig({"log.roll.hours": "1", "log.roll.jitter.hours": "2", "broker.id": "7"})
    assert config["log.roll.ms"] == 3_600_000
    assert config["log.roll.jitter.ms"] == 7_200_000
    assert config["log.flush.interval.ms"] == config["log.flush.scheduler.interval.ms"]
    assert config["log.dirs"] == ("barnabas-data",)
    assert config["metadata.log.dir"] == "barnabas-data"
    assert config["node.id"] == config["broker.id"] == 7
    assert BrokerConfig()["node.id"] == BrokerConfig()["broker.id"] == 1


def test_an_unknown_key_is_refused_with_the_nearest(tmp_path):
    """A slip in a name stops the start and names the key that was meant."""
    with pytest.raises(
        ConfigError, match=r"Unknown configuration key log\.retention\.hour \(--set\).*log\.retention\.hours"
    ):
        BrokerConfig({"log.retention.hour": "1"})
    with pytest.raises(ConfigError, match=r"server\.properties.*did you mean num\.partitions"):
        load(tmp_path, "num.partition=3")
    with pytest.raises(ConfigError, match=r"docs/reference/configuration\.md"):
        BrokerConfig({"xyzzy": "1"})


def test_a_value_that_does_not_fit_is_refused_with_its_origin():
    """A bad value stops the start, with the range and the place it comes from."""
    with pytest.raises(
        ConfigError, match=r"0 for configuration num\.partitions: Value must be at least 1 \(environment\)"
    ):
        BrokerConfig.load(environ={"BARNABAS_NUM_PARTITIONS": "0"})


def test_a_key_of_former_times_is_refused_or_ignored_by_name():
    """Keys that Kafka 4 dropped say what to do instead."""
    with pytest.raises(ConfigError, match=r"zookeeper\.metadata\.migration\.enable.*remove the key"):
        BrokerConfig({"zookeeper.metadata.migration.enable": "true"})
    config = BrokerConfig({"inter.broker.protocol.version": "3.9"})
    assert "inter.broker.protocol.version" in config.warnings[0]
    assert "inter.broker.protocol.version" not in config.static


def test_a_missing_file_is_one_sentence(tmp_path):
    """A file that is not there is named."""
    with pytest.raises(ConfigError, match=r"nothing\.properties cannot be read: No such file"):
        BrokerConfig.load(tmp_path / "nothing.properties")


def test_a_file_may_be_latin_1(tmp_path):
    """Java's old encoding of properties files is read too."""
    file = tmp_path / "server.properties"
    file.write_bytes("broker.rack=Zürich".encode("latin-1"))
    assert BrokerConfig.load(file)["broker.rack"] == "Zürich"
    file.write_bytes("broker.rack=Zürich".encode())
    assert BrokerConfig.load(file)["broker.rack"] == "Zürich"


def test_what_a_container_platform_injects_is_no_setting():
    """Variables that Kubernetes sets for a service of our name stop nothing, and slips are doubted."""
    config = BrokerConfig.load(
        environ={
            "BARNABAS_SERVICE_HOST": "10.0.0.1",
            "BARNABAS_PORT": "tcp://10.0.0.1:9092",
            "BARNABAS_METRICS_PORT": "tcp://10.0.0.1:9404",
            "BARNABAS_PORT_9092_TCP_PROTO": "tcp",
            "BARNABAS_BOOTSTRAP_SERVER": "localhost:9092",
            "BARNABAS_LOG_RETENTION_HOUR": "5",
            "HOME": "/root",
        }
    )
    assert dict(config.static) == {}
    assert len(config.warnings) == 1
    assert "BARNABAS_LOG_RETENTION_HOURS" in config.warnings[0]


def test_our_keys_have_short_variables():
    """`barnabas.durability` is BARNABAS_DURABILITY, and the long form works as well."""
    assert (
        BrokerConfig.load(environ={"BARNABAS_DURABILITY": "page-cache"})["barnabas.durability"]
        == "page-cache"
    )
    assert BrokerConfig.load(environ={"BARNABAS_BARNABAS_OPEN_FILES": "99"})["barnabas.open.files"] == 99


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"log.roll.ms": "0"}, "log.roll.ms must be"),
        ({"log.roll.jitter.ms": "-1"}, "log.roll.jitter.ms must be"),
        ({"log.retention.ms": "0"}, "log.retention.ms must be"),
        ({"node.id": "1", "broker.id": "2"}, "broker.id is the old name"),
        ({"group.min.session.timeout.ms": "10", "group.max.session.timeout.ms": "5"}, "group.min.session"),
        ({"max.connections.per.ip": "0"}, "set to zero only if max.connections.per.ip.overrides"),
        ({"max.connections.per.ip.overrides": "10.0.0.1"}, "IP address and a number"),
        ({"offsets.topic.segment.bytes": "1048575"}, "at least 1048576, .*; raise it, or remove the key"),
        ({"transaction.state.log.segment.bytes": "100"}, "at least 1048576, .*; raise it, or remove the key"),
    ],
)
def test_contradictions_stop_the_start(settings, complaint):
    """Settings that cannot all be meant are refused together."""
    with pytest.raises(ConfigError, match=complaint):
        BrokerConfig(settings)


@pytest.mark.parametrize("name", ["offsets.topic.segment.bytes", "transaction.state.log.segment.bytes"])
def test_the_brokers_own_topics_can_be_created_with_what_is_taken(name):
    """The least size of a segment that a start takes is one that a topic takes: the coordinator is never without its topic."""
    least = BrokerConfig({name: "1048576"})[name]
    assert TOPIC_KEYS["segment.bytes"].parse(str(least)) == least


def test_an_update_replaces_the_dynamic_layer_and_tells_who_listens():
    """Dynamic values count over static ones, this broker's over the cluster's, and go when they are taken away."""
    config = BrokerConfig({"message.max.bytes": "1000"})
    heard = []
    config.add_listener(heard.append)
    assert config.update({}, {"message.max.bytes": "2000"}) == {"message.max.bytes"}
    assert config.update({"message.max.bytes": "3000"}) == {"message.max.bytes"}
    assert config["message.max.bytes"] == 3000
    assert config.origin("message.max.bytes") == "dynamic (this broker)"
    assert config.update({}) == {"message.max.bytes"}
    assert config["message.max.bytes"] == 2000
    assert config.update({}, {}) == {"message.max.bytes"}
    assert config["message.max.bytes"] == 1000
    assert config.update({}, {}) == frozenset()
    assert heard == [{"message.max.bytes"}] * 4


def test_an_update_reaches_what_falls_back():
    """A dynamic time in milliseconds counts over static hours."""
    config = BrokerConfig({"log.retention.hours": "1"})
    assert config.update({"log.retention.ms": "5"}) == {"log.retention.ms"}
    assert config["log.retention.ms"] == 5
    config.update({})
    assert config["log.retention.ms"] == 3_600_000


def test_a_stored_setting_that_no_longer_fits_is_passed_over(caplog):
    """What another version stored never stops this one; the log says so once."""
    config = BrokerConfig()
    stored = {"log.dirs": "/x", "message.max.bytes": "many", "plug.in": "y"}
    changed = config.update(stored, {"log.roll.ms": "1"})
    config.update(stored)
    assert [record.getMessage() for record in caplog.records] == config.warnings
    assert changed == {"plug.in", "log.roll.ms"}
    assert len(config.warnings) == 2
    assert config["log.dirs"] == ("barnabas-data",)


def test_settings_without_effect_are_known():
    """What was set in vain can be told."""
    config = BrokerConfig({"num.io.threads": "3", "num.partitions": "2", "rsm.config.x": "y"})
    assert config.without_effect() == ["num.io.threads", "rsm.config.x"]


def test_settings_of_one_listener_have_no_effect():
    """They are known and checked, and whoever sets one is told that all listeners are alike."""
    config = BrokerConfig({"listener.name.internal.max.connections": "5", "max.connections": "9"})
    assert config.without_effect() == ["listener.name.internal.max.connections"]
    assert config["max.connections"] == 9
    with pytest.raises(ConfigError):
        BrokerConfig({"listener.name.internal.max.connections": "many"})


def test_kafkas_own_example_starts(tmp_path):
    """The combined-mode server.properties that Kafka ships is taken as it is."""
    text = """
    process.roles=broker,controller
    node.id=1
    controller.quorum.bootstrap.servers=localhost:9093
    listeners=PLAINTEXT://:9092,CONTROLLER://:9093
    inter.broker.listener.name=PLAINTEXT
    advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
    controller.listener.names=CONTROLLER
    listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT
    num.network.threads=3
    num.io.threads=8
    socket.send.buffer.bytes=102400
    socket.receive.buffer.bytes=102400
    socket.request.max.bytes=104857600
    log.dirs=/var/lib/kraft-combined-logs
    num.partitions=1
    num.recovery.threads.per.data.dir=1
    offsets.topic.replication.factor=1
    share.coordinator.state.topic.replication.factor=1
    share.coordinator.state.topic.min.isr=1
    transaction.state.log.replication.factor=1
    transaction.state.log.min.isr=1
    log.retention.hours=168
    log.segment.bytes=1073741824
    log.retention.check.interval.ms=300000
    """
    config = load(tmp_path, text)
    assert config.for_clients("listeners") == ("PLAINTEXT://:9092",)
    assert config.for_clients("advertised.listeners") == ("PLAINTEXT://localhost:9092",)
    assert BrokerConfig().for_clients("advertised.listeners") == ()
    assert config["log.dirs"] == ("/var/lib/kraft-combined-logs",)
