"""Users and TLS, with a ZooKeeper that asks for them."""

import subprocess

import pytest

from barnabas.controller.store.zookeeper.session import Credentials, Session, SessionSettings, TlsSettings
from barnabas.controller.store.zookeeper.znodes import ZooKeeperError
from barnabas.errors import StorageError
from tests.controller.zookeeper.nodes import CLUSTER_ID, registration, setting
from tests.ports import free_ports
from tests.zookeeper_process import zookeeper_server

_JAAS = """
Server {
  org.apache.zookeeper.server.auth.DigestLoginModule required
  user_barnabas="secret"
  user_mallory="also";
};
"""

_SASL = {"authProvider.1": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"}


@pytest.fixture(scope="module")
def strict_server(tmp_path_factory):
    """Knows two users."""
    directory = tmp_path_factory.mktemp("sasl")
    jaas = directory / "jaas.conf"
    jaas.write_text(_JAAS)
    with zookeeper_server(
        directory, settings=_SASL, java=[f"-Djava.security.auth.login.config={jaas}"]
    ) as server:
        yield server


def openssl(*words, directory):
    subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority; the server's and the client's certificates, each with its key in one file; a stranger's."""
    directory = tmp_path_factory.mktemp("certificates")
    for name in ("ca", "other"):
        openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *(
                "-addext",
                "basicConstraints=critical,CA:TRUE",
                "-keyout",
                f"{name}.key",
                "-out",
                f"{name}.pem",
            ),
            directory=directory,
        )
    for name, alternative in (("server", "DNS:localhost"), ("client", "DNS:client")):
        (directory / f"{name}.ext").write_text(f"subjectAltName={alternative}\n")
        openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", f"{name}.key", "-out", f"{name}.csr"),
            directory=directory,
        )
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.crt"),
            directory=directory,
        )
        (directory / f"{name}.pem").write_text(
            (directory / f"{name}.key").read_text() + (directory / f"{name}.crt").read_text()
        )
    return directory


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory, certificates):
    """Takes TLS with a client's certificate only, beside the plain port that the test asks whether it serves."""
    port = free_ports(1)[0]
    settings = {
        "secureClientPort": str(port),
        "secureClientPortAddress": "127.0.0.1",
        "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
        "ssl.keyStore.location": str(certificates / "server.pem"),
        "ssl.keyStore.type": "PEM",
        "ssl.trustStore.location": str(certificates / "ca.pem"),
        "ssl.trustStore.type": "PEM",
        "ssl.hostnameVerification": "false",
    }
    with zookeeper_server(tmp_path_factory.mktemp("tls"), settings=settings) as server:
        server.secure_port = port
        yield server


def as_user(username, password, scheme="sasl"):
    return {"credentials": Credentials(scheme, username, password), "private": True}


async def refused(server, root, loop, **session):
    """What a session of these settings is told when it looks at the cluster."""
    session = Session(SessionSettings(server.address, root, **session), loop=loop, on_state=lambda _: None)
    try:
        await session.open()
        with pytest.raises(ZooKeeperError) as error:
            await session.get("/cluster")
        return str(error.value)
    finally:
        await session.close()


async def test_a_user_that_zookeeper_knows(strict_server, nodes, root, loop):
    """SASL (DIGEST-MD5): with zookeeper.set.acl nobody else reads or writes what the brokers keep."""
    mine = as_user("barnabas", "secret")
    first = await nodes(1, hosts=strict_server.address, session=mine).open()
    second = await nodes(2, hosts=strict_server.address, session=mine).open()
    await first.store.register(registration(1))
    assert await first.append(setting(1)) == 0
    await second.until_it_knows(0)
    await second.until_it_sees(1)
    assert "NoAuthError" in await refused(strict_server, root, loop)
    assert "NoAuthError" in await refused(strict_server, root, loop, **as_user("mallory", "also"))


async def test_a_wrong_password_is_named(strict_server, nodes, loop):
    """The start is refused with the keys that have to be right."""
    node = nodes(
        1, hosts=strict_server.address, session=as_user("barnabas", "wrong"), connection_timeout_ms=5_000
    )
    with pytest.raises(StorageError, match=r"barnabas\.zookeeper\.password"):
        await node.store.cluster_id(CLUSTER_ID)


async def test_zookeepers_own_scheme(server, nodes, root, loop):
    """digest needs no user on the server: whoever has the password is who made the nodes."""
    mine = as_user("barnabas", "secret", "digest")
    first = await nodes(1, session=mine).open()
    assert await first.append(setting(1)) == 0
    assert (await nodes(2, session=mine).open()).settings == first.settings
    assert "NoAuthError" in await refused(server, root, loop, **as_user("barnabas", "wrong", "digest"))


async def test_tls(tls_server, certificates, nodes, loop):
    """Both sides show a certificate; the server's has to be trusted, and to name the host."""
    trusted = TlsSettings(
        ca_file=str(certificates / "ca.pem"),
        certificate_file=str(certificates / "client.pem"),
        key_file=str(certificates / "client.pem"),
    )
    hosts = f"localhost:{tls_server.secure_port}"
    first = await nodes(1, hosts=hosts, session={"tls": trusted}).open()
    assert await first.append(*(setting(number, "x" * 20_000) for number in range(10))) == 9
    second = await nodes(2, hosts=hosts, session={"tls": trusted}).open()
    assert second.settings == first.settings
    assert await first.append(setting(11)) == 10
    await second.until_it_knows(10)
    by_address = f"127.0.0.1:{tls_server.secure_port}"
    unchecked = trusted._replace(check_hostname=False)
    await nodes(3, hosts=by_address, session={"tls": unchecked}).open()
    node = nodes(4, hosts=hosts, session={"tls": trusted._replace(ca_file="/no/such/file")})
    with pytest.raises(StorageError, match=r"the files of zookeeper\.ssl"):
        await node.store.cluster_id(CLUSTER_ID)
    for wrong_hosts, wrong in (
        (by_address, trusted),
        (hosts, trusted._replace(ca_file=str(certificates / "other.pem"))),
        (hosts, trusted._replace(certificate_file=None, key_file=None)),
    ):
        node = nodes(4, hosts=wrong_hosts, session={"tls": wrong}, connection_timeout_ms=1_000)
        with pytest.raises(StorageError, match="did not answer within 1000 ms"):
            await node.store.cluster_id(CLUSTER_ID)
