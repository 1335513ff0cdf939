"""`BrokerConfig`: the settings of one broker, typed, with the layers they come from.

A value comes from the highest of these layers that has it:

    dynamic, for this broker        IncrementalAlterConfigs on its id
    dynamic, for the cluster        IncrementalAlterConfigs on the empty broker name
    command line                    --set key=value, --listen, --data-dir, --node-id
    environment                     BARNABAS_LOG_RETENTION_HOURS
    file                            server.properties
    default                         config/keys

`config["log.retention.ms"]` is typed and has Kafka's precedence among the keys of one setting already applied:
milliseconds, or else minutes, or else hours (`KafkaConfig` of Apache Kafka 4.3).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from barnabas.config.consistency import contradiction
from barnabas.config.definition import READ_ONLY
from barnabas.config.keys import BROKER_KEYS
from barnabas.config.names import broker_key, from_environment, refuse_unknown
from barnabas.config.properties import parse_properties
from barnabas.config.removed import REMOVED
from barnabas.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["FAMILIES", "BrokerConfig", "apply_synonyms", "overlaid"]

logger = logging.getLogger(__name__)

FAMILIES: tuple[tuple[str, ...], ...] = (
    ("log.roll.ms", "log.roll.hours"),
    ("log.roll.jitter.ms", "log.roll.jitter.hours"),
    ("log.retention.ms", "log.retention.minutes", "log.retention.hours"),
    ("log.dirs", "log.dir"),
    ("node.id", "broker.id"),
)
"""Names of one setting; within a layer the first wins."""

_DEFAULTS: dict[str, Any] = {name: key.default for name, key in BROKER_KEYS.items()}

_DYNAMIC, _DYNAMIC_DEFAULT = "dynamic (this broker)", "dynamic (cluster default)"


class BrokerConfig:
    """A broker's settings.

    `config[name]` is the typed value in force; `origin(name)` says where it comes from; `update()` applies dynamic
    changes and calls the listeners. `warnings` are sentences about settings that were accepted and do nothing; whoever
    loads the configuration writes them to the log, `update()` does so itself.
    """

    __slots__ = (
        "_dynamic",
        "_dynamic_default",
        "_listeners",
        "_origins",
        "_raw",
        "_static",
        "_values",
        "warnings",
    )

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        """Settings by name, as `--set` would give them.

        Raises:
            ConfigError: A name is unknown, or a value does not fit.
        """
        self.warnings: list[str] = []
        self._static: dict[str, str] = {}
        self._origins: dict[str, str] = {}
        self._dynamic: dict[str, str] = {}
        self._dynamic_default: dict[str, str] = {}
        self._listeners: list[Callable[[frozenset[str]], None]] = []
        self._overlay("--set", settings or {})
        self._raw: dict[str, Any] = {}
        self._values: dict[str, Any] = {}
        self._resolve()
        self._refuse_contradictions()

    @classmethod
    def load(
        cls,
        file: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> BrokerConfig:
        """Settings of a properties file, under those of the environment, under `settings` (the command line).

        Raises:
            ConfigError: The file cannot be read, a name is unknown (the nearest known one is named), a value does not
                fit, or two settings contradict each other; one sentence with the remedy.
        """
        config = cls()
        if file is not None:
            config._overlay(str(file), _read(file))
        if environ is not None:
            from_env, doubts = from_environment(environ)
            config._overlay("environment", from_env)
            config.warnings += doubts
        config._overlay("--set", settings or {})
        config._resolve()
        config._refuse_contradictions()
        return config

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def get(self, name: str, default: Any = None) -> Any:
        """The typed value in force, or `default` for a name that nobody set and no table has."""
        return self._values.get(name, default)

    def for_clients(self, name: str) -> tuple[str, ...]:
        """The entries of `listeners` or `advertised.listeners` without those that are the controller's own."""
        controllers = {listener.upper() for listener in self._values["controller.listener.names"]}
        entries: tuple[str, ...] = self._values[name] or ()
        return tuple(entry for entry in entries if entry.partition("://")[0].upper() not in controllers)

    def origin(self, name: str) -> str:
        """Where the value comes from: one of the dynamic layers, `--set`, `environment`, the file's name, or `default`."""
        if name in self._dynamic:
            return _DYNAMIC
        if name in self._dynamic_default:
            return _DYNAMIC_DEFAULT
        return self._origins[name] if name in self._static else "default"

    @property
    def raw(self) -> Mapping[str, Any]:
        """The typed values without the fall-backs among names: `log.retention.ms` is `None` while only hours are set."""
        return self._raw

    @property
    def static(self) -> Mapping[str, str]:
        """What file, environment and command line set, as text, by name."""
        return self._static

    @property
    def dynamic(self) -> Mapping[str, str]:
        """What was set for this broker while it ran, as text, by name."""
        return self._dynamic

    @property
    def dynamic_default(self) -> Mapping[str, str]:
        """What was set for all brokers while they ran, as text, by name."""
        return self._dynamic_default

    def without_effect(self) -> list[str]:
        """The names that file, environment or command line set and that change nothing in this version.

        What is set for one listener (`listener.name.internal.max.connections`) is among them.
        """
        found = []
        for name in self._static:
            key = BROKER_KEYS.get(name)
            if key is None or not key.effective:
                found.append(name)
        return found

    def add_listener(self, listener: Callable[[frozenset[str]], None]) -> None:
        """Calls `listener` with the names whose values changed, after each `update()` that changed any."""
        self._listeners.append(listener)

    def update(
        self, dynamic: Mapping[str, str], dynamic_default: Mapping[str, str] | None = None
    ) -> frozenset[str]:
        """Replaces what was set dynamically for this broker and, unless `None`, for all brokers.

        Returns the names whose values changed. What is not dynamic or does not parse is passed over with a warning rather
        than refused: it was accepted when it was stored, perhaps by another version.
        """
        self._dynamic = self._usable(dynamic)
        if dynamic_default is not None:
            self._dynamic_default = self._usable(dynamic_default)
        before = self._values
        self._resolve()
        changed = (
            frozenset(name for name, value in self._values.items() if before.get(name) != value)
            | before.keys() - self._values.keys()
        )
        if changed:
            for listener in self._listeners:
                listener(changed)
        return changed

    def _overlay(self, origin: str, settings: Mapping[str, str]) -> None:
        if ("node.id" in settings) is not ("broker.id" in settings):
            # The second is the old name of the first; a layer that has one of them means both.
            number = settings["node.id"] if "node.id" in settings else settings["broker.id"]
            settings = {**settings, "node.id": number, "broker.id": number}
        for family in FAMILIES:
            # --set log.retention.hours=1 shall count although the file says log.retention.ms.
            if not settings.keys().isdisjoint(family):
                for name in family:
                    self._static.pop(name, None)
        for name, text in settings.items():
            removed = REMOVED.get(name)
            if removed is not None:
                if removed.refused:
                    raise ConfigError(f"{name} ({origin}): {removed.remedy}")
                self.warnings.append(f"{name} ({origin}) is ignored: {removed.remedy}")
                continue
            key = broker_key(name)
            if key is None:
                refuse_unknown(name, origin)
            else:
                try:
                    key.parse(text)
                except ConfigError as error:
                    raise ConfigError(f"{error} ({origin})") from None
            self._static[name] = text
            self._origins[name] = origin

    def _usable(self, settings: Mapping[str, str]) -> dict[str, str]:
        usable = {}
        for name, text in settings.items():
            key = broker_key(name)
            try:
                if key is not None:
                    key.parse(text)
            except ConfigError as error:
                self._pass_over(f"A stored dynamic setting is passed over: {error}")
                continue
            if key is not None and key.scope == READ_ONLY:
                self._pass_over(f"The stored dynamic setting {name} is passed over: it is not dynamic.")
                continue
            usable[name] = text
        return usable

    def _pass_over(self, warning: str) -> None:
        # Every update comes with all that is stored; once is enough.
        if warning not in self.warnings:
            self.warnings.append(warning)
            logger.warning(warning)

    def _resolve(self) -> None:
        self._raw = overlaid(self._static, self._dynamic_default, self._dynamic)
        self._values = self._raw.copy()
        apply_synonyms(self._values)

    def _refuse_contradictions(self) -> None:
        sentence = contradiction(self._values)
        if sentence is not None:
            raise ConfigError(sentence)


def overlaid(*layers: Mapping[str, str]) -> dict[str, Any]:
    """The defaults under these layers, typed, the last on top.

    Raises:
        ConfigError: A value does not parse.
    """
    values = _DEFAULTS.copy()
    for layer in layers:
        for name, text in layer.items():
            key = broker_key(name)
            values[name] = text if key is None else key.parse(text)
    return values


def _read(file: str | os.PathLike[str]) -> dict[str, str]:
    try:
        with open(file, "rb") as stream:  # noqa: PTH123 - pathlib is a slow import
            content = stream.read()
    except OSError as error:
        raise ConfigError(f"The configuration file {file} cannot be read: {error.strerror}.") from None
    try:
        text = content.decode()
    except UnicodeDecodeError:
        # Java's own encoding of properties files; whoever does not write ASCII today writes UTF-8.
        text = content.decode("latin-1")
    try:
        return parse_properties(text)
    except ConfigError as error:
        raise ConfigError(f"{error} ({file})") from None


def apply_synonyms(values: dict[str, Any]) -> None:
    """Fills the keys that fall back on others, so that readers need to know one name per setting."""
    if values["log.retention.ms"] is None:
        minutes = values["log.retention.minutes"]
        values["log.retention.ms"] = (
            values["log.retention.hours"] * 3_600_000 if minutes is None else minutes * 60_000
        )
    if values["log.retention.ms"] < 0:
        values["log.retention.ms"] = -1
    if values["log.roll.ms"] is None:
        values["log.roll.ms"] = values["log.roll.hours"] * 3_600_000
    if values["log.roll.jitter.ms"] is None:
        values["log.roll.jitter.ms"] = values["log.roll.jitter.hours"] * 3_600_000
    if values["log.flush.interval.ms"] is None:
        values["log.flush.interval.ms"] = values["log.flush.scheduler.interval.ms"]
    if values["log.dirs"] is None:
        values["log.dirs"] = values["log.dir"]
    if values["metadata.log.dir"] is None:
        values["metadata.log.dir"] = values["log.dirs"][0]
