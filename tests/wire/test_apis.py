from __future__ import annotations

import subprocess
import sys

import pytest

from barnabas.wire.apis import APIS


@pytest.mark.parametrize("api", APIS.values(), ids=lambda api: api.name)
def test_an_api_says_what_its_messages_say(api):
    """Key, versions and module of an API are those of its request and response."""
    for cls, kind in ((api.request_class, "Request"), (api.response_class, "Response")):
        assert cls.__name__ == api.name + kind
        assert cls.__module__ == f"barnabas.wire.messages.{api.module}"
        assert api.key == cls.API_KEY
        assert (api.min_version, api.max_version) == (cls.MIN_VERSION, cls.MAX_VERSION)
        assert api.flexible_from == cls.FLEXIBLE_FROM
    assert APIS[api.key] is api


def test_the_lower_versions_of_kafka_3_are_there():
    """What Kafka 4 has dropped and older clients speak has been kept."""
    assert [APIS[key].min_version for key in (0, 1, 2, 8, 9, 19, 20, 23, 32)] == [0] * 9


def test_what_zookeeper_controllers_said_is_not_there():
    """LeaderAndIsr, StopReplica, UpdateMetadata and ControlledShutdown belong to brokers of the past."""
    assert not {4, 5, 6, 7} & APIS.keys()


def test_unstable_versions_are_marked():
    """The one unstable version of Kafka 4.3 is InitProducerId 6."""
    assert [api.name for api in APIS.values() if api.latest_version_unstable] == ["InitProducerId"]


def test_the_table_imports_no_message():
    """A broker that starts does not read the code of messages that nobody has sent yet."""
    program = "import sys, barnabas.wire.headers; print([m for m in sys.modules if '.messages' in m])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
