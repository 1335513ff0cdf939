"""The front door: `barnabas serve` starts a broker, every other command is an ordinary Kafka client.

A file per command, with `arguments(parser)` and `run(options) -> exit status`; only the one that is called for is
imported. Exit status: 0 done, 1 failed (one sentence on standard error), 2 wrong usage or settings.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["COMMANDS", "Command", "command_parser", "main", "overview"]


class Command(NamedTuple):
    """A command: its module in this room, and what it does in one sentence."""

    module: str
    sentence: str


COMMANDS: dict[str, Command] = {
    "serve": Command("serve", "Start a broker."),
    "topics": Command("topics", "List, create, describe and delete topics."),
    "produce": Command("produce", "Send lines from standard input as records."),
    "consume": Command("consume", "Print the records of a topic as they come."),
    "adopt": Command("adopt", "See whether the directories of a stopped Apache Kafka can be taken over."),
    "cluster": Command("cluster", "Start a cluster on this machine, for trying it out."),
    "verify": Command("verify", "Check the files of a stopped broker."),
    "version": Command("version", "Say which version this is."),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in {"--version", "-V"}:
        words[0] = "version"
    if not words or words[0] in {"--help", "-h", "help"}:
        print(overview(), end="", file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    command = COMMANDS.get(words[0])
    if command is None:
        import difflib

        near = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else "barnabas --help lists the commands."
        print(f"barnabas: there is no command {words[0]!r}; {hint}", file=sys.stderr)
        return 2
    return _run(words[0], words[1:])


def _run(name: str, words: Sequence[str]) -> int:
    from barnabas.cli.failure import CommandError
    from barnabas.errors import ConfigError

    module = import_module(f"{__name__}.{COMMANDS[name].module}")
    try:
        options = command_parser(name).parse_args(words)
        status: int = module.run(options)
        sys.stdout.flush()
    except ConfigError as error:
        print(f"barnabas {name}: {error}", file=sys.stderr)
        return 2
    except CommandError as error:
        print(f"barnabas {name}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter must not complain when it flushes at exit.
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return status


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    import argparse

    module = import_module(f"{__name__}.{COMMANDS[name].module}")
    parser = argparse.ArgumentParser(
        prog=f"barnabas {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.arguments(parser)
    return parser


def overview() -> str:
    """What `barnabas --help` says."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.sentence}" for name, command in COMMANDS.items()]
    return "\n".join(
        (
            "usage: barnabas COMMAND [OPTIONS]",
            "",
            "An event-streaming broker that speaks the Apache Kafka protocol, and clients for it.",
            "",
            *lines,
            "",
            "barnabas COMMAND --help explains a command.",
            "",
        )
    )
