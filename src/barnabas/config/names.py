"""Which broker key a name means: listener prefixes, environment variables, and the nearest name to a wrong one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from barnabas.config.keys import BROKER_KEYS
from barnabas.config.removed import REMOVED
from barnabas.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from barnabas.config.definition import ConfigKey

__all__ = ["PREFIX", "broker_key", "from_environment", "nearest", "refuse_unknown"]

PREFIX = "BARNABAS_"

# Variables of the command line that are not broker keys.
_NOT_KEYS = frozenset({"BARNABAS_BOOTSTRAP_SERVER"})

# Plug-ins are handed whatever stands under these prefixes; there is nothing to check here.
_PLUGIN_PREFIXES = ("rsm.config.", "rlmm.config.", "config.providers.")


def broker_key(name: str) -> ConfigKey | None:
    """The key that `name` is, or that it is for one listener: `listener.name.internal.ssl.keystore.type`.

    A listener's SASL mechanism may stand between: `listener.name.internal.plain.sasl.jaas.config`.
    """
    key = BROKER_KEYS.get(name)
    if key is not None or not name.startswith("listener.name."):
        return key
    _, _, rest = name[len("listener.name.") :].partition(".")
    key = BROKER_KEYS.get(rest)
    if key is None:
        _, _, rest = rest.partition(".")
        key = BROKER_KEYS.get(rest) if rest.startswith(("sasl.", "connections.max.reauth.ms")) else None
    return key


def refuse_unknown(name: str, origin: str) -> None:
    """Returns if `name` belongs to a plug-in.

    Raises:
        ConfigError: It belongs to nobody; the nearest known name is in the message.
    """
    if not name.startswith(_PLUGIN_PREFIXES):
        _refuse(name, origin)


def _refuse(name: str, origin: str) -> NoReturn:
    near = nearest(name, BROKER_KEYS)
    hint = f"did you mean {near}?" if near else "the names are listed in docs/reference/configuration.md."
    raise ConfigError(f"Unknown configuration key {name} ({origin}): {hint}")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The known name that resembles `name` most, if one does."""
    import difflib

    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.75)
    return found[0] if found else None


def from_environment(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Settings from variables such as `BARNABAS_LOG_RETENTION_HOURS`, and doubts about those that are no key.

    Our own keys go without the second `BARNABAS_`: `BARNABAS_DURABILITY` is `barnabas.durability`. A variable that is no key
    is not refused, since container platforms inject some of this form: Kubernetes sets `BARNABAS_SERVICE_HOST` and
    `BARNABAS_PORT=tcp://10.0.0.1:9092` for a service named barnabas.
    """
    settings: dict[str, str] = {}
    doubts: list[str] = []
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable in _NOT_KEYS:
            continue
        if value.startswith(("tcp://", "udp://", "sctp://")):
            continue
        name = variable[len(PREFIX) :].lower().replace("_", ".")
        if broker_key(name) is None and name not in REMOVED:
            name = f"barnabas.{name}"
        if broker_key(name) is not None or name in REMOVED:
            settings[name] = value
            continue
        near = nearest(name.removeprefix("barnabas."), BROKER_KEYS)
        if near is not None:
            doubts.append(
                f"The environment variable {variable} is no setting; "
                f"for {near} it would be {PREFIX}{near.removeprefix('barnabas.').replace('.', '_').upper()}."
            )
    return settings, doubts
