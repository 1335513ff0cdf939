"""What `zookeeper.connect` and its relatives mean."""

import pytest

from barnabas.config.keys import BROKER_KEYS
from barnabas.controller.store.zookeeper.session import Credentials, SessionSettings, TlsSettings
from barnabas.controller.store.zookeeper.settings import session_settings
from barnabas.errors import ConfigError


def settings(**texts):
    """Typed values as a configuration has them; dots are underscores here."""
    values = {name: key.default for name, key in BROKER_KEYS.items()}
    for name, text in texts.items():
        key = BROKER_KEYS[name.replace("_", ".")]
        values[key.name] = key.parse(text)
    return session_settings(values)


@pytest.mark.parametrize(
    ("text", "hosts", "root"),
    [
        ("a:2181", "a:2181", ""),
        ("a:2181,b:2182, c", "a:2181,b:2182,c", ""),
        ("a:2181,b:2181/kafka/one", "a:2181,b:2181", "/kafka/one"),
        ("10.0.0.1:1/", "10.0.0.1:1", ""),
        ("[::1]:2181/x/", "[::1]:2181", "/x"),
    ],
)
def test_servers_and_path(text, hosts, root):
    """Servers in any number, then a path, which may be missing."""
    assert settings(zookeeper_connect=text) == SessionSettings(
        hosts, root, session_timeout_ms=6_000, connection_timeout_ms=18_000
    )


@pytest.mark.parametrize("text", ["", "/x", "a:b", "a:2181,,b:1", "a:1:2", "a:1//x", "a:1/x//y", "a:1/../x"])
def test_what_is_no_list_of_servers_is_refused(text):
    """With the form that is expected."""
    with pytest.raises(ConfigError, match="write it as host:port"):
        settings(zookeeper_connect=text)


def test_credentials_and_tls():
    """Users, and files in PEM; one file has both key and certificate, as in Kafka."""
    found = settings(
        zookeeper_connect="a:1",
        barnabas_zookeeper_username="u",
        barnabas_zookeeper_password="p",
        barnabas_zookeeper_scheme="digest",
        zookeeper_set_acl="true",
        zookeeper_ssl_client_enable="true",
        zookeeper_ssl_truststore_location="/ca.pem",
        zookeeper_ssl_keystore_location="/key.pem",
        zookeeper_ssl_keystore_password="secret",
        zookeeper_ssl_endpoint_identification_algorithm="",
    )
    assert found.credentials == Credentials("digest", "u", "p")
    assert found.private
    assert found.tls == TlsSettings("/ca.pem", "/key.pem", "/key.pem", "secret", check_hostname=False)


def test_half_of_what_it_takes_is_refused():
    """A user without a password, and private nodes of nobody."""
    with pytest.raises(ConfigError, match=r"without barnabas\.zookeeper\.password"):
        settings(zookeeper_connect="a:1", barnabas_zookeeper_username="u")
    with pytest.raises(ConfigError, match=r"set barnabas\.zookeeper\.username"):
        settings(zookeeper_connect="a:1", zookeeper_set_acl="true")


def test_formats_that_are_not_read_are_refused():
    """A Java key store is not taken for PEM."""
    with pytest.raises(ConfigError, match=r"zookeeper\.ssl\.keystore\.type=JKS is not read.*set PEM"):
        settings(
            zookeeper_connect="a:1",
            zookeeper_ssl_client_enable="true",
            zookeeper_ssl_keystore_location="/a.jks",
            zookeeper_ssl_keystore_type="JKS",
        )
