from __future__ import annotations

import json
import subprocess
import sys

import pytest

from barnabas import __version__
from barnabas.cli import COMMANDS, command_parser, main
from barnabas.cli.table import table


def test_no_command_shows_the_commands(capsys):
    """Whoever types `barnabas` learns what there is, and that this was not all."""
    assert main([]) == 2
    assert "serve" in capsys.readouterr().err
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out and command.sentence in out for name, command in COMMANDS.items())


def test_a_slip_in_a_command_is_guessed(capsys):
    """An unknown command is one sentence with the nearest one."""
    assert main(["topic"]) == 2
    assert capsys.readouterr().err == "barnabas: there is no command 'topic'; did you mean topics?\n"
    assert main(["xyzzy"]) == 2
    assert "barnabas --help" in capsys.readouterr().err


def test_the_version_is_said(capsys):
    """`version`, `--version` and its JSON agree."""
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"barnabas {__version__} (python 3.")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"barnabas {__version__} ")
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["barnabas"] == __version__


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_explains_itself(name, capsys):
    """--help works for each, and every option has a help text."""
    with pytest.raises(SystemExit) as ended:
        command_parser(name).parse_args(["--help"])
    assert ended.value.code == 0
    assert f"usage: barnabas {name}" in capsys.readouterr().out
    for action in command_parser(name)._actions:
        assert action.help or action.metavar == "ACTION"


@pytest.mark.parametrize(
    ("command", "options"), [("topics", ("list",)), ("produce", ("t",)), ("consume", ("t",))]
)
@pytest.mark.parametrize("address", ["localhost:1", "no-such-host.invalid:9092", "localhost:x"])
def test_without_a_broker_it_says_what_to_do(command, options, address, capsys):
    """No broker, no name, no address: one sentence with the remedy, at once."""
    assert main([command, *options, "--bootstrap-server", address]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"barnabas {command}: there is no broker at {address} (")
    assert "barnabas serve" in captured.err
    assert captured.err.count("\n") == 1


def test_a_table_is_as_wide_as_it_must_be():
    """Words stand left, numbers right, and nothing trails."""
    rows = [("a", 1, "x"), ("longer", 200, "")]
    assert table(("NAME", "N", "NOTE"), rows) == "NAME      N  NOTE\na         1  x\nlonger  200"
    assert table(("A", "B"), []) == "A  B"


def test_starting_a_command_loads_only_what_it_needs():
    """`serve` never loads the client library, and nobody loads what takes long."""
    script = (
        "import sys; from barnabas.cli import command_parser\n"
        "command_parser('serve'); import barnabas.config.broker, barnabas.cli.logs, barnabas.cli.process\n"
        "print(*sorted(m.partition('.')[0] for m in sys.modules if '.' not in m))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"confluent_kafka", "prometheus_client", "difflib", "email", "hashlib", "uuid", "asyncio"}
    assert not heavy & set(done.stdout.split())
