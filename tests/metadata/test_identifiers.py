from base64 import urlsafe_b64decode, urlsafe_b64encode
from uuid import UUID

from barnabas.metadata.identifiers import random_cluster_id, random_id


def test_random_ids_are_version_4_uuids_that_no_tool_takes_for_an_option():
    """Ids are UUIDs of version 4 whose text never begins with a dash."""
    ids = {random_id() for _ in range(500)}
    assert len(ids) == 500
    for raw in ids:
        assert UUID(bytes=raw).version == 4
        assert not urlsafe_b64encode(raw).startswith(b"-")


def test_cluster_id_is_22_characters_of_a_uuid():
    """A cluster id is a UUID in URL-safe base64 without padding."""
    cluster_id = random_cluster_id()
    assert len(cluster_id) == 22
    assert len(urlsafe_b64decode(cluster_id + "==")) == 16
