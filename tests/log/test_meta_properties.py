from __future__ import annotations

from pathlib import Path

import pytest

from barnabas.errors import ConfigError
from barnabas.log.meta_properties import (
    MetaProperties,
    decode_meta_properties,
    encode_meta_properties,
)

PATH = Path("/data/meta.properties")
DIRECTORY_ID = bytes(range(16))


def test_what_is_written_is_read():
    """The owner of a directory is found again."""
    properties = MetaProperties("mhq6X9m7QKG3cC9Z6Sbk3Q", 7, DIRECTORY_ID)
    assert decode_meta_properties(encode_meta_properties(properties), PATH) == properties


def test_a_file_of_the_java_broker():
    """Comments, the order of the lines and escapes are as Java writes them."""
    content = b"#\n#Sun Nov 22 20:55:00 UTC 2026\nnode.id=3\ndirectory.id\\:AAECAwQFBgcICQoLDA0ODw\nversion: 1\ncluster.id=a\\=b\n"
    content = content.replace(b"directory.id\\:", b"directory.id = ")
    assert decode_meta_properties(content, PATH) == MetaProperties("a=b", 3, DIRECTORY_ID)


def test_version_zero():
    """A directory of the ZooKeeper days has a broker id, and may lack the rest."""
    assert decode_meta_properties(b"version=0\nbroker.id=4\n", PATH) == MetaProperties(None, 4, None)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version=2\nnode.id=1\ncluster.id=x\n", "version 2"),
        (b"version=1\ncluster.id=x\n", "which node"),
        (b"version=1\nnode.id=one\ncluster.id=x\n", "which node"),
        (b"version=1\nnode.id=1\n", "which cluster"),
        (b"version=1\nnode.id=1\ncluster.id=x\ndirectory.id=short\n", "no id"),
        (b"version=1\nnode.id=1\ncluster.id=x\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAA\n", "reserved"),
        (b"", "which node"),
    ],
)
def test_damage_is_named(content, reason):
    """A file that does not say whose directory it is stops the start with one sentence and a remedy."""
    with pytest.raises(ConfigError, match=reason) as refusal:
        decode_meta_properties(content, PATH)
    assert str(PATH) in str(refusal.value)
    assert "another data directory" in str(refusal.value)
