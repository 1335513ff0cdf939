"""DescribeConfigs, AlterConfigs, IncrementalAlterConfigs and ListConfigResources."""

import logging
import time

import pytest

from barnabas.errors import ErrorCode
from barnabas.handlers.logger_levels import levels
from barnabas.records.builder import build_batch
from barnabas.records.record import Record
from barnabas.wire.messages.alter_configs import AlterConfigsRequest
from barnabas.wire.messages.create_topics import CreateTopicsRequest
from barnabas.wire.messages.describe_configs import DescribeConfigsRequest
from barnabas.wire.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from barnabas.wire.messages.list_config_resources import ListConfigResourcesRequest
from barnabas.wire.messages.produce import ProduceRequest
from tests.event_loops import eventually
from tests.handlers.node import running

TOPIC, BROKER, LOGGER, METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND = 0, 1, 2


async def create(node, name):
    topic = CreateTopicsRequest.CreatableTopic(name=name, num_partitions=1, replication_factor=1)
    await node.call(CreateTopicsRequest(topics=[topic], timeout_ms=5000), 7)


async def change(node, resource_type, name, *operations, version=1, **more):
    """(code, message) of one changed resource."""
    configs = [
        IncrementalAlterConfigsRequest.AlterableConfig(name=key, config_operation=operation, value=value)
        for key, operation, value in operations
    ]
    resource = IncrementalAlterConfigsRequest.AlterConfigsResource(
        resource_type=resource_type, resource_name=name, configs=configs
    )
    answer = await node.call(IncrementalAlterConfigsRequest(resources=[resource], **more), version)
    (result,) = answer.responses
    assert (result.resource_type, result.resource_name) == (resource_type, name)
    return result.error_code, result.error_message


async def produce(node, topic, *, size_bytes):
    """The error code of one record of this size."""
    batch = build_batch([Record(0, int(time.time() * 1000), None, b"x" * size_bytes, ())])
    data = ProduceRequest.PartitionProduceData(index=0, records=bytes(batch))
    topic_data = ProduceRequest.TopicProduceData(name=topic, partition_data=[data])
    answer = await node.call(ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[topic_data]), 9)
    return answer.responses[0].partition_responses[0].error_code


async def replace(node, resource_type, name, *settings, version=2, **more):
    """(code, message) of one replaced resource."""
    configs = [AlterConfigsRequest.AlterableConfig(name=key, value=value) for key, value in settings]
    resource = AlterConfigsRequest.AlterConfigsResource(
        resource_type=resource_type, resource_name=name, configs=configs
    )
    (result,) = (await node.call(AlterConfigsRequest(resources=[resource], **more), version)).responses
    return result.error_code, result.error_message


async def describe(node, resource_type, name, *keys, version=4, **more):
    resource = DescribeConfigsRequest.DescribeConfigsResource(
        resource_type=resource_type, resource_name=name, configuration_keys=list(keys) or None
    )
    (result,) = (await node.call(DescribeConfigsRequest(resources=[resource], **more), version)).results
    assert (result.resource_type, result.resource_name) == (resource_type, name)
    return result


async def value(node, resource_type, name, key):
    (config,) = (await describe(node, resource_type, name, key)).configs
    return config.value, config.config_source


@pytest.mark.parametrize("version", [0, 1])
async def test_a_change_is_in_force_when_the_answer_comes(tmp_path, loop, version):
    """A topic's own setting, the broker's for all topics, and back to the default."""
    async with running(tmp_path) as node:
        await create(node, "orders")
        log = node.broker._replicas.leader("orders", 0).log
        assert await change(node, BROKER, "", ("log.retention.ms", SET, "7000"), version=version) == (0, None)
        assert log.config.retention_ms == 7000
        assert await value(node, TOPIC, "orders", "retention.ms") == ("7000", 3)
        assert await change(node, BROKER, "1", ("log.retention.ms", SET, "8000"), version=version) == (
            0,
            None,
        )
        assert log.config.retention_ms == 8000
        assert await value(node, TOPIC, "orders", "retention.ms") == ("8000", 2)
        assert await change(node, TOPIC, "orders", ("retention.ms", SET, "5000"), version=version) == (
            0,
            None,
        )
        assert log.config.retention_ms == 5000
        assert await value(node, TOPIC, "orders", "retention.ms") == ("5000", 1)
        for resource in (
            (TOPIC, "orders", "retention.ms"),
            (BROKER, "1", "log.retention.ms"),
            (BROKER, "", "log.retention.ms"),
        ):
            assert await change(node, *resource[:2], (resource[2], DELETE, None), version=version) == (
                0,
                None,
            )
        assert log.config.retention_ms == 604_800_000
        assert await value(node, TOPIC, "orders", "retention.ms") == ("604800000", 5)


async def test_a_change_reaches_a_log_that_nobody_has_used(tmp_path, loop):
    """What is open and not written to yet, as after a recovery, goes by new settings too: retention, and the very next produce request."""
    async with running(tmp_path) as node:
        await create(node, "orders")
        logs = node.broker.log_directories
        log = await eventually(lambda: logs.get("orders", 0))
        assert not node.broker._replicas.leader("orders", 0).is_open
        changes = ("retention.ms", SET, "5000"), ("max.message.bytes", SET, "200")
        assert await change(node, TOPIC, "orders", *changes) == (0, None)
        assert log.config.retention_ms == 5000
        assert await change(node, BROKER, "", ("log.retention.bytes", SET, "7000")) == (0, None)
        assert (log.config.retention_ms, log.config.retention_bytes) == (5000, 7000)
        assert await produce(node, "orders", size_bytes=200) == ErrorCode.MESSAGE_TOO_LARGE
        assert await produce(node, "orders", size_bytes=20) == 0
        assert node.broker._replicas.leader("orders", 0).log is log


@pytest.mark.parametrize("version", range(3))
async def test_a_replacement_resets_what_it_does_not_name(tmp_path, loop, version):
    """The older API, in each version."""
    async with running(tmp_path) as node:
        await create(node, "orders")
        assert await replace(
            node, TOPIC, "orders", ("retention.ms", "5"), ("segment.ms", "6"), version=version
        ) == (0, None)
        assert await replace(node, TOPIC, "orders", ("retention.ms", "7"), version=version) == (0, None)
        assert node.image.topic_config("orders") == {"retention.ms": "7"}
        assert await replace(node, TOPIC, "none", ("retention.ms", "7"), version=version) == (
            3,
            "The topic 'none' does not exist.",
        )
        assert await replace(node, TOPIC, "orders", version=version, validate_only=True) == (0, None)
        assert node.image.topic_config("orders") == {"retention.ms": "7"}


async def test_changes_that_cannot_be_are_told(tmp_path, loop):
    """Code and message go into the answer, and nothing changes; validate_only says the same."""
    async with running(tmp_path) as node:
        before = node.image.configs
        for only in (False, True):
            assert await change(node, BROKER, "1", ("node.id", SET, "5"), validate_only=only) == (
                42,
                "Cannot update these configs dynamically: [node.id]",
            )
        assert await change(
            node, GROUP, "g", ("consumer.session.timeout.ms", SET, "50000"), validate_only=True
        ) == (0, None)
        assert node.image.configs == before


async def test_a_topic_described(tmp_path, loop):
    """Values, sources, types, synonyms and documentation, as far as they are asked for."""
    async with running(tmp_path) as node:
        await create(node, "orders")
        await change(node, TOPIC, "orders", ("retention.ms", SET, "5"))
        result = await describe(
            node, TOPIC, "orders", "retention.ms", include_synonyms=True, include_documentation=True
        )
        (config,) = result.configs
        assert (config.value, config.config_source, config.config_type) == ("5", 1, 5)
        assert (config.read_only, config.is_sensitive) == (False, False)
        assert [(step.name, step.value, step.source) for step in config.synonyms] == [
            ("retention.ms", "5", 1)
        ]
        assert config.documentation
        (config,) = (await describe(node, TOPIC, "orders", "retention.ms", "no.such.key")).configs
        assert (config.synonyms, config.documentation) == ([], None)
        assert len((await describe(node, TOPIC, "orders")).configs) > 30


@pytest.mark.parametrize("version", range(5))
async def test_every_version_of_a_description(tmp_path, loop, version):
    """Version 0 knows only whether a value is the default."""
    async with running(tmp_path) as node:
        await create(node, "orders")
        await change(node, TOPIC, "orders", ("retention.ms", SET, "5"))
        result = await describe(node, TOPIC, "orders", "retention.ms", "segment.ms", version=version)
        found = {config.name: config for config in result.configs}
        assert {name: config.value for name, config in found.items()} == {
            "retention.ms": "5",
            "segment.ms": "604800000",
        }
        if version == 0:
            assert [found["retention.ms"].is_default, found["segment.ms"].is_default] == [False, True]
            (broker,) = (await describe(node, BROKER, "1", "node.id", version=0)).configs
            assert not broker.read_only or broker.name == "node.id"
        else:
            assert [found["retention.ms"].config_source, found["segment.ms"].config_source] == [1, 5]


async def test_a_broker_described(tmp_path, loop):
    """What may not change is read-only; secrets stay secret; the empty name has what holds for all brokers."""
    async with running(tmp_path) as node:

        async def everywhere():
            return (await describe(node, BROKER, "")).configs

        result = await describe(node, BROKER, "1", "node.id", "log.retention.ms", "ssl.key.password")
        found = {config.name: config for config in result.configs}
        assert found["node.id"].read_only
        assert not found["log.retention.ms"].read_only
        assert (found["ssl.key.password"].is_sensitive, found["ssl.key.password"].value) == (True, None)
        # A new cluster has eligible leader replicas, and one `min.insync.replicas` for them.
        default = [("min.insync.replicas", "1", 3)]
        assert [(each.name, each.value, each.config_source) for each in await everywhere()] == default
        await change(node, BROKER, "", ("log.retention.ms", SET, "5"))
        found = {(each.name, each.value, each.config_source) for each in await everywhere()}
        assert found == {*default, ("log.retention.ms", "5", 3)}


async def test_groups_and_subscriptions_described(tmp_path, loop):
    """What was not set has its default."""
    async with running(tmp_path) as node:
        await change(node, GROUP, "g", ("consumer.session.timeout.ms", SET, "50000"))
        assert await value(node, GROUP, "g", "consumer.session.timeout.ms") == ("50000", 8)
        assert await value(node, GROUP, "h", "consumer.session.timeout.ms") == ("45000", 5)
        await change(node, METRICS, "m", ("metrics", SET, "a,b"))
        assert await value(node, METRICS, "m", "metrics") == ("a,b", 7)
        assert await value(node, METRICS, "m", "interval.ms") == ("300000", 5)
        assert len((await describe(node, METRICS, "n", include_synonyms=True)).configs) == 3


@pytest.mark.parametrize(
    ("resource_type", "name", "code", "message"),
    [
        (TOPIC, "none", 3, ""),
        (TOPIC, "", 17, "Topic name is invalid: the empty string is not allowed"),
        (BROKER, "2", 42, "Unexpected broker id, expected 1 or empty string, but received 2"),
        (BROKER, "x", 42, "Broker id must be an integer, but it is: x"),
        (LOGGER, "", 42, "Broker id must not be empty"),
        (LOGGER, "2", 42, "Unexpected broker id, expected 1 but received 2"),
        (METRICS, "", 42, "Client metrics subscription name must not be empty"),
        (GROUP, "", 42, "Group name must not be empty"),
    ],
)
async def test_what_cannot_be_described(tmp_path, loop, resource_type, name, code, message):
    """In Kafka's words."""
    async with running(tmp_path) as node:
        result = await describe(node, resource_type, name)
        assert (result.error_code, result.error_message, result.configs) == (code, message, [])


async def test_unknown_resource_types(tmp_path, loop):
    """A request of the future is refused, resource by resource."""
    async with running(tmp_path) as node:
        assert (await describe(node, 99, "x")).error_code == 42
        assert (await change(node, 99, "x"))[0] == 42
        assert (await replace(node, 99, "x"))[0] == 42


@pytest.fixture
def quiet_logger():
    """A logger of this test's own, as it was before."""
    logger = logging.getLogger("barnabas.test_configs")
    level, root_level = logger.level, logging.getLogger().level
    yield logger
    logger.setLevel(level)
    logging.getLogger().setLevel(root_level)


async def test_log_levels(tmp_path, loop, quiet_logger):
    """They change while the broker runs, are described, and go back to their parent's."""
    name = quiet_logger.name
    async with running(tmp_path) as node:
        assert await change(node, LOGGER, "1", (name, SET, "TRACE"), ("root", SET, "ERROR")) == (0, None)
        assert quiet_logger.level == 5
        found = {config.name: config for config in (await describe(node, LOGGER, "1")).configs}
        assert (found[name].value, found[name].config_source, found["root"].value) == ("TRACE", 6, "ERROR")
        assert [config.name for config in (await describe(node, LOGGER, "1", name)).configs] == [name]
        assert await change(node, LOGGER, "1", (name, DELETE, None)) == (0, None)
        assert quiet_logger.level == logging.NOTSET
        assert await change(node, LOGGER, "1", (name, SET, "DEBUG"), validate_only=True) == (0, None)
        assert quiet_logger.level == logging.NOTSET
        assert "barnabas" not in node.image.configs


@pytest.mark.parametrize(
    ("name", "operation", "code", "message"),
    [
        ("1", ("no.such", SET, "INFO"), 40, "Logger no.such does not exist!"),
        (
            "1",
            ("root", SET, "debug"),
            40,
            (
                "Cannot set the log level of root to debug as it is not a supported log level. "
                "Valid log levels are DEBUG, ERROR, FATAL, INFO, TRACE, WARN"
            ),
        ),
        ("1", ("root", DELETE, None), 42, "Removing the log level of the root logger is not allowed"),
        ("1", ("root", APPEND, "X"), 42, "APPEND operation is not allowed for the BROKER_LOGGER resource"),
        ("1", ("root", 9, "X"), 42, "Unknown operation type 9 is not allowed for the BROKER_LOGGER resource"),
        ("2", ("root", SET, "INFO"), 42, "Unexpected node id. Expected 1, but received 2"),
        ("", ("root", SET, "INFO"), 42, "Node id must be an integer, but it is: "),
    ],
)
async def test_log_levels_that_cannot_be(tmp_path, loop, name, operation, code, message):
    """In Kafka's words, and nothing changes."""
    before = levels()
    async with running(tmp_path) as node:
        assert await change(node, LOGGER, name, operation) == (code, message)
        twice = [operation, operation]
        assert (await change(node, LOGGER, name, *twice))[1] == "Error due to duplicate config keys"
    assert {key: level for key, level in levels().items() if key in before} == before


async def test_resources_that_have_settings(tmp_path, loop):
    """Version 0 tells subscriptions only; version 1 everything, or the types asked for."""
    async with running(tmp_path) as node:
        await create(node, "orders")
        await change(node, GROUP, "g", ("consumer.session.timeout.ms", SET, "50000"))
        await change(node, METRICS, "m", ("metrics", SET, "a"))

        async def found(version, *types):
            answer = await node.call(ListConfigResourcesRequest(resource_types=list(types)), version)
            return answer.error_code, [
                (each.resource_type, each.resource_name) for each in answer.config_resources
            ]

        assert await found(0) == (0, [(METRICS, "m")])
        assert await found(1) == (
            0,
            [(GROUP, "g"), (METRICS, "m"), (LOGGER, "1"), (BROKER, "1"), (TOPIC, "orders")],
        )
        assert await found(1, BROKER, GROUP) == (0, [(GROUP, "g"), (BROKER, "1")])
        assert await found(1, 99) == (35, [])


async def test_settings_of_brokers_survive_a_restart(tmp_path, loop):
    """What was set dynamically comes before what stands in the file."""
    async with running(tmp_path) as node:
        await create(node, "orders")
        await change(node, BROKER, "1", ("log.retention.ms", SET, "8000"))
    async with running(tmp_path, log_retention_ms="1") as node:
        assert node.broker.log_directories.get("orders", 0).config.retention_ms == 8000
