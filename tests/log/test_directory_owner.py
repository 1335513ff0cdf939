from __future__ import annotations

from pathlib import Path

import pytest

from barnabas.errors import ConfigError
from barnabas.log.directory_owner import settle_owner
from barnabas.log.meta_properties import MetaProperties

A, B = Path("/a"), Path("/b")
ID = bytes(range(16))


def test_new_directories_get_an_owner():
    """New directories share node and cluster, and have ids of their own."""
    owners = settle_owner({A: None, B: None}, node_id=3, cluster_id=None)
    assert owners[A].cluster_id == owners[B].cluster_id
    assert len(owners[A].cluster_id) == 22
    assert owners[A].directory_id != owners[B].directory_id
    assert owners[A].node_id == owners[B].node_id == 3


def test_what_is_there_stays():
    """A directory keeps its ids, and the others join its cluster; what version 0 lacks is added."""
    known = MetaProperties("cluster", 3, ID)
    owners = settle_owner({A: None, B: known}, node_id=3, cluster_id=None)
    assert owners[B] == known
    assert owners[A].cluster_id == "cluster"
    old = settle_owner({A: MetaProperties(None, 3, None)}, node_id=3, cluster_id="cluster")[A]
    assert (old.cluster_id, old.node_id) == ("cluster", 3)
    assert old.directory_id is not None


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({A: MetaProperties("cluster", 4, ID)}, "belongs to node 4"),
        ({A: MetaProperties("other", 3, ID)}, "belongs to cluster other"),
        (
            {A: MetaProperties("cluster", 3, ID), B: MetaProperties("cluster", 3, ID)},
            "/a and /b .* is a copy",
        ),
    ],
)
def test_strangers_are_refused(found, reason):
    """Another node, another cluster, a copied directory: one sentence with the remedy."""
    with pytest.raises(ConfigError, match=reason):
        settle_owner(found, node_id=3, cluster_id="cluster")
