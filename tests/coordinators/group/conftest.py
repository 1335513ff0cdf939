import pytest

from tests.coordinators.group.conversation import Coordinator


@pytest.fixture
def coordinator():
    return Coordinator()
