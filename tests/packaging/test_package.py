"""What `pip install .` gives: built as pip builds it, installed into an empty environment, and run there."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from barnabas import __version__
from tests.broker_process import BrokerProcess

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = "Scripts" if os.name == "nt" else "bin"


def run(*command, cwd=None):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("BARNABAS_", "PYTHON"))
    }
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=cwd,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def built(directory, kind):
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", directory, cwd=ROOT)
    (package,) = directory.iterdir()
    return package


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout."""
    return built(tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture
def empty_environment(tmp_path):
    """An environment with our dependencies and without us."""
    directory = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", directory)
    # A path in a .pth file brings packages along, but not the .pth files beside them, such as the checkout's own.
    (site,) = directory.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return directory


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    """Every module, the mark that it is typed, the licence; no tests, tools, caches."""
    names = set(zipfile.ZipFile(wheel).namelist())
    described = f"barnabas-{__version__}.dist-info/"
    assert {name for name in names if not name.startswith(("barnabas/", described))} == set()
    sources = {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")}
    assert {name for name in names if name.startswith("barnabas/")} == sources | {"barnabas/py.typed"}
    assert described + "licenses/LICENSE" in names


def test_the_wheel_describes_itself(wheel):
    """Name, version, licence, the Python it needs, what it depends on; and the command."""
    described = f"barnabas-{__version__}.dist-info/"
    with zipfile.ZipFile(wheel) as archive:
        fields = email.message_from_bytes(archive.read(described + "METADATA"))
        assert "barnabas = barnabas.cli:main" in archive.read(described + "entry_points.txt").decode()
    assert (fields["Name"], fields["Version"], fields["License-Expression"]) == (
        "barnabas",
        __version__,
        "Apache-2.0",
    )
    assert fields["Requires-Python"] == ">=3.11"
    needed = {re.split(r"[^\w-]", text, maxsplit=1)[0] for text in fields.get_all("Requires-Dist")}
    assert needed == {"crc32c", "cramjam", "uvloop", "prometheus-client", "confluent-kafka", "kazoo"}


def test_the_source_archive_can_be_developed(tmp_path):
    """What `make test` needs is there, and nothing that was made in the checkout."""
    with tarfile.open(built(tmp_path, "sdist")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        *("Makefile", "pyproject.toml", "LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"),
        *(
            "requirements/run.lock",
            "requirements/dev.lock",
            "tools/setup.sh",
            "tools/peers.sh",
            "bench/__main__.py",
        ),
        *("src/barnabas/py.typed", "tests/conftest.py", "docs/README.md"),
    } <= names
    made = re.compile(r"(^|/)(\.venv[^/]*|\.cache|node_modules|__pycache__|barnabas-data|target|dist)(/|$)")
    assert [name for name in names if made.search(name)] == []


def test_an_installed_barnabas_works(wheel, empty_environment, tmp_path):
    """`barnabas` is on the path, says its version, and serves events, from the installed code."""
    python = empty_environment / SCRIPTS / "python"
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"),
        *("--disable-pip-version-check", wheel),
    )
    where = run(python, "-c", "import barnabas; print(barnabas.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(empty_environment)
    command = empty_environment / SCRIPTS / "barnabas"
    assert __version__ in run(command, "version", cwd=tmp_path)
    with BrokerProcess(tmp_path / "broker", command=[str(command)]) as broker:
        server = ["--bootstrap-server", broker.bootstrap_server]
        produced = subprocess.run(
            [str(command), "produce", "greetings", *server],
            input="hello\n",
            text=True,
            timeout=60,
            check=True,
        )
        assert produced.returncode == 0
        consumed = run(command, "consume", "greetings", "--from-beginning", "--max-messages", "1", *server)
        assert consumed == "hello\n"
        assert broker.stop() == 0
