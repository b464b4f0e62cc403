"""The settings of a provider: from arguments, else from the environment, else by default."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from arbprov._utils import find_timezone, is_positive_number
from arbprov.errors import ConfigurationError
from arbprov.wire.tokens import TokenFile
from arbprov.wire.url import parse_hub_url

if TYPE_CHECKING:
    from datetime import tzinfo

    from arbprov.wire.tls import Tls

__all__ = ["Config", "load_config"]


_MOST_AT_ONCE = 1_000_000


def _positive(config: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not is_positive_number(value):
        raise ValueError("is not a number above 0")


def _known_timezone(config: object, attribute: attrs.Attribute[str], value: str) -> None:
    find_timezone(value)


def _concurrency(config: object, attribute: attrs.Attribute[int], value: int) -> None:
    _positive(config, attribute, value)
    # Each has its place from the start on.
    if value > _MOST_AT_ONCE:
        raise ValueError(f"is more than {_MOST_AT_ONCE}")


def _message_size(config: object, attribute: attrs.Attribute[int], value: int) -> None:
    _positive(config, attribute, value)
    # gRPC counts in 32 bits.
    if value >= 2**31:
        raise ValueError("is more than 2147483647")


def _hub_url(config: object, attribute: attrs.Attribute[str], value: str) -> None:
    parse_hub_url(value)


def _setting(variable: str, default: Any, help: str, validator: Any, **options: Any) -> Any:
    metadata = {"variable": variable, "help": help}
    return attrs.field(default=default, validator=validator, metadata=metadata, **options)


@attrs.frozen(kw_only=True)
class Config:
    """A provider's settings; times are in seconds."""

    name: str = _setting("PROVIDER_NAME", "provider", "the provider's name", None)
    auth_token: str | Callable[[], str] = _setting(  # noqa: RUF009 - a field, as all of these
        "PROVIDER_AUTH_TOKEN", "", "the hub's token; needed to run", None, repr=False
    )
    hub_url: str = _setting(
        "HUB_GRPC_URL",
        "hub-grpc:50051",
        "the hub, as host:port, grpcs://host:port or unix:path",
        _hub_url,
    )
    hub_tls: bool = _setting("HUB_GRPC_TLS", False, "whether to speak TLS to the hub", None)
    hub_tls_ca: str = _setting(
        "HUB_GRPC_TLS_CA", "", "the file of the CA that signs the hub's certificate", None
    )
    hub_tls_cert: str = _setting(
        "HUB_GRPC_TLS_CERT", "", "the file of the provider's certificate, for mutual TLS", None
    )
    hub_tls_key: str = _setting("HUB_GRPC_TLS_KEY", "", "the file of its private key", None)
    hub_tls_server_name: str = _setting(
        "HUB_GRPC_TLS_SERVER_NAME", "", "the host name in the hub's certificate", None
    )
    execution_timeout: float = _setting(
        "TASK_EXECUTION_TIMEOUT", 1.0, "how long a handler may run", _positive
    )
    timezone: str = _setting(
        "PROVIDER_TIMEZONE", "UTC", "of the envelope's local time", _known_timezone
    )
    concurrency: int = _setting("ARBPROV_CONCURRENCY", 32, "tasks in flight at once", _concurrency)
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
    max_message_size: int = _setting(
        "ARBPROV_MAX_MESSAGE_SIZE",
        64 * 1024 * 1024,
        "bytes of the largest task that is taken",
        _message_size,
    )
    spool: str = _setting(
        "ARBPROV_SPOOL", "", "a file that keeps tasks and results over a restart", None
    )
    rate_limit_store: str = _setting(
        "ARBPROV_RATE_LIMIT_STORE", "", "where limits are kept, as redis://...", None, repr=False
    )
    rate_limit_namespace: str = _setting(
        "ARBPROV_RATE_LIMIT_NAMESPACE", "", "what they are kept under, if not the name", None
    )

    @property
    def tzinfo(self) -> tzinfo:
        """The time zone itself."""
        return find_timezone(self.timezone)

    def tls(self) -> Tls | None:
        """Return what TLS to the hub needs; None if there is none.

        Raises:
            ConfigurationError: A file can't be used.
        """
        asked = parse_hub_url(self.hub_url).tls
        if asked is False or not (asked or self._asks_for_tls()):
            return None
        from arbprov.wire.tls import load_tls

        return load_tls(
            ca=self.hub_tls_ca,
            certificate=self.hub_tls_cert,
            key=self.hub_tls_key,
            server_name=self.hub_tls_server_name,
        )

    def _asks_for_tls(self) -> list[str]:
        """Return the settings that ask for TLS, beside the URL."""
        return [field.name for field in attrs.fields(Config) if _is_tls(field, self)]

    def changed(self, **arguments: Any) -> Config:
        """Return these settings with some changed; None leaves one as it is.

        Raises:
            ConfigurationError: A value makes no sense.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        checked = load_config(given, {})
        return attrs.evolve(self, **{name: getattr(checked, name) for name in given})


# By the type of a setting, which is that of its default.
_KINDS: dict[type, str] = {
    str: "is no text",
    int: "is no whole number",
    float: "is no number",
    bool: "is neither true nor false",
}
_TRUTHS = {"true": True, "yes": True, "on": True, "1": True}
_TRUTHS |= {"false": False, "no": False, "off": False, "0": False}


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
    config = Config(**values)
    _refuse_contradiction(config)
    return config


def _refuse_contradiction(config: Config) -> None:
    asking = config._asks_for_tls()
    if asking and parse_hub_url(config.hub_url).tls is False:
        variable = attrs.fields_dict(Config)[asking[0]].metadata["variable"]
        raise ConfigurationError(
            f"HUB_GRPC_URL (hub_url=) {config.hub_url!r} says that there is no TLS, and "
            f"{variable} ({asking[0]}=) asks for it; mend one of them"
        )


def _is_tls(field: attrs.Attribute[Any], config: Config) -> bool:
    return field.name.startswith("hub_tls") and bool(getattr(config, field.name))


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
        return f"{variable}_FILE", TokenFile(f"{variable}_FILE", path)
    return "", None


def _checked(field: attrs.Attribute[Any], origin: str, value: Any) -> Any:
    shown = f" {value!r}" if field.repr else ""
    if isinstance(value, str) and not value.strip():
        raise ConfigurationError(f"{origin} is blank; set it, or remove it for the default")
    if not field.repr and callable(value):
        return _checked_source(origin, value)
    kind = type(field.default)
    convert = _from_text if origin.isupper() else _from_argument
    try:
        converted = convert(kind, value)
    except Exception:
        raise ConfigurationError(f"{origin}{shown} {_KINDS[kind]}") from None
    return _validated(field, f"{origin}{shown}", converted)


def _from_text(kind: type, text: str) -> Any:
    return _TRUTHS[text.strip().lower()] if kind is bool else kind(text)


def _from_argument(kind: type, value: Any) -> Any:
    # Nothing is cast, but for an int, which is a fine float.
    if type(value) is not kind and (type(value), kind) != (int, float):
        raise TypeError
    return kind(value)


def _checked_source(origin: str, source: Any) -> Any:
    if inspect.iscoroutinefunction(source):
        raise ConfigurationError(
            f"{origin} is an async function; give it a plain one, which is called on a thread"
        )
    if isinstance(source, TokenFile):
        source()  # a file that is missing now is told now, though it is read again later
    return source


def _validated(field: attrs.Attribute[Any], given: str, value: Any) -> Any:
    try:
        if field.validator:
            field.validator(None, field, value)
    except ValueError as error:
        raise ConfigurationError(f"{given} {error}") from None
    return value
