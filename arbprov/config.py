"""The settings of a provider: from arguments, else from the environment, else by default.

cattrs turns the environment's texts into values, attrs checks them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import tzinfo
from pathlib import Path
from typing import Any

import attrs
from cattrs import Converter

from arbprov.endpoint import parse_hub_url
from arbprov.errors import ConfigurationError
from arbprov.quantities import is_quantity
from arbprov.structuring import make_converter
from arbprov.timezones import find_timezone

__all__ = ["Config", "load_config"]


def _positive(config: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not is_quantity(value):
        raise ValueError("is not a number above 0")


def _known_timezone(config: object, attribute: attrs.Attribute[str], value: str) -> None:
    find_timezone(value)


def _hub_url(config: object, attribute: attrs.Attribute[str], value: str) -> None:
    parse_hub_url(value)


def _setting(variable: str, default: Any, help: str, validator: Any, **options: Any) -> Any:
    metadata = {"variable": variable, "help": help}
    return attrs.field(default=default, validator=validator, metadata=metadata, **options)


@attrs.frozen(kw_only=True)
class Config:
    """A provider's settings; times are in seconds."""

    name: str = _setting("PROVIDER_NAME", "provider", "the provider's name", None)
    auth_token: str = _setting(
        "PROVIDER_AUTH_TOKEN", "", "the hub's token; needed to run", None, repr=False
    )
    hub_url: str = _setting(
        "HUB_GRPC_URL", "hub-grpc:50051", "the hub, as host:port or unix:path", _hub_url
    )
    execution_timeout: float = _setting(
        "TASK_EXECUTION_TIMEOUT", 1.0, "how long a handler may run", _positive
    )
    timezone: str = _setting(
        "PROVIDER_TIMEZONE", "UTC", "of the envelope's local time", _known_timezone
    )
    concurrency: int = _setting("ARBPROV_CONCURRENCY", 32, "tasks in flight at once", _positive)
    drain_timeout: float = _setting(
        "ARBPROV_DRAIN_TIMEOUT", 25.0, "how long a stop may take", _positive
    )
    start_timeout: float = _setting(
        "ARBPROV_START_TIMEOUT", 30.0, "how long the hub may stay away at the start", _positive
    )
    poll_timeout: float = _setting(
        "ARBPROV_POLL_TIMEOUT", 60.0, "how long the hub may hold a poll", _positive
    )
    submit_timeout: float = _setting(
        "ARBPROV_SUBMIT_TIMEOUT", 30.0, "how long one try to send a result may take", _positive
    )

    @property
    def tzinfo(self) -> tzinfo:
        """The time zone itself."""
        return find_timezone(self.timezone)

    def changed(self, **arguments: Any) -> Config:
        """Return these settings with some changed; None leaves one as it is.

        Raises:
            ConfigurationError: A value makes no sense.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        checked = load_config(given, {})
        return attrs.evolve(self, **{name: getattr(checked, name) for name in given})


attrs.resolve_types(Config)
_KINDS = {str: "text", int: "whole number", float: "number"}
_FROM_TEXT = Converter()
_FROM_ARGUMENTS = make_converter()


def load_config(arguments: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Config:
    """Return the settings; an argument of None is one that was not given.

    Raises:
        ConfigurationError: A value makes no sense; the message names its argument or variable.
    """
    values: dict[str, Any] = {}
    for field in attrs.fields(Config):
        origin, value = _find(field, arguments, os.environ if environ is None else environ)
        if origin:
            values[field.name] = _checked(field, origin, value)
    return Config(**values)


def _find(
    field: attrs.Attribute[Any], arguments: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[str, Any]:
    """Return where a setting was given, and what; nowhere is an empty text."""
    variable = field.metadata["variable"]
    if (value := arguments.get(field.name)) is not None:
        return f"{field.name}=", value
    if variable in environ:
        return variable, environ[variable]
    if not field.repr and (path := environ.get(f"{variable}_FILE")) is not None:
        return f"{variable}_FILE", _read_secret(f"{variable}_FILE", path)
    return "", None


def _read_secret(variable: str, path: str) -> str:
    if not path.strip():
        raise ConfigurationError(f"{variable} is blank; set it to a path, or remove it")
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{variable}: {path} can't be read: {error}") from None


def _checked(field: attrs.Attribute[Any], origin: str, value: Any) -> Any:
    shown = f" {value!r}" if field.repr else ""
    if isinstance(value, str) and not value.strip():
        raise ConfigurationError(f"{origin} is blank; set it, or remove it for the default")
    assert field.type is not None
    converter = _FROM_TEXT if origin.isupper() else _FROM_ARGUMENTS
    try:
        converted = converter.structure(value, field.type)
    except Exception:
        kind = _KINDS[field.type]
        raise ConfigurationError(f"{origin}{shown} is no {kind}") from None
    return _validated(field, f"{origin}{shown}", converted)


def _validated(field: attrs.Attribute[Any], given: str, value: Any) -> Any:
    try:
        if field.validator:
            field.validator(None, field, value)
    except ValueError as error:
        raise ConfigurationError(f"{given} {error}") from None
    return value
