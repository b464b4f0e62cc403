"""A provider's settings: arguments override environment variables, which override defaults."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from arbprov._utils import MEBIBYTE, find_timezone, is_positive_number
from arbprov.errors import ConfigurationError
from arbprov.wire.tokens import TokenFile
from arbprov.wire.url import parse_hub_url

if TYPE_CHECKING:
    from datetime import tzinfo

    from arbprov.wire.tls import Tls

__all__ = ["Config", "load_config"]

_PREFIX = "ARBPROV_"
_MAX_CONCURRENCY = 1_000_000  # each slot is allocated at the start
_MAX_MESSAGE_SIZE = 2**31 - 1  # gRPC counts in 32 bits


def _check_positive(value: float) -> None:
    if not is_positive_number(value):
        raise ValueError("must be greater than 0" if value <= 0 else "must be a finite number")


def _at_most(limit: int) -> Callable[[int], None]:
    def check(value: int) -> None:
        _check_positive(value)
        if value > limit:
            raise ValueError(f"must be at most {limit}")

    return check


def _check_address(value: str) -> None:
    host, _, port = value.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:9100")


def _setting(
    variable: str,
    default: Any,
    help: str,
    check: Callable[[Any], object] | None = None,
    *,
    is_secret: bool = False,
) -> Any:
    metadata = {"variable": variable, "help": help, "check": check}
    return attrs.field(default=default, repr=not is_secret, metadata=metadata)


@attrs.frozen(kw_only=True)
class Config:
    """A provider's settings; times are in seconds.

    >>> config = load_config({"name": "shop"}, {"TASK_EXECUTION_TIMEOUT": "30"})
    >>> config.name, config.execution_timeout, config.concurrency
    ('shop', 30.0, 32)
    """

    name: str = _setting("PROVIDER_NAME", "provider", "the provider's name")
    auth_token: str | Callable[[], str] = _setting(  # noqa: RUF009 - a field, as all of these
        "PROVIDER_AUTH_TOKEN", "", "the hub's token; required to run", is_secret=True
    )
    hub_url: str = _setting(
        "HUB_GRPC_URL",
        "hub-grpc:50051",
        "the hub, as host:port, grpcs://host:port or unix:path",
        parse_hub_url,
    )
    hub_tls: bool = _setting("HUB_GRPC_TLS", False, "whether to use TLS")
    hub_tls_ca: str = _setting(
        "HUB_GRPC_TLS_CA", "", "file of the CA that signed the hub's certificate"
    )
    hub_tls_cert: str = _setting(
        "HUB_GRPC_TLS_CERT", "", "file of the provider's certificate, for mutual TLS"
    )
    hub_tls_key: str = _setting("HUB_GRPC_TLS_KEY", "", "file of the provider's private key")
    hub_tls_server_name: str = _setting(
        "HUB_GRPC_TLS_SERVER_NAME", "", "the host name in the hub's certificate"
    )
    execution_timeout: float = _setting(
        "TASK_EXECUTION_TIMEOUT", 1.0, "how long a handler may run", _check_positive
    )
    timezone: str = _setting(
        "PROVIDER_TIMEZONE", "UTC", "the time zone of the envelope's local time", find_timezone
    )
    concurrency: int = _setting(
        "ARBPROV_CONCURRENCY", 32, "tasks in flight at once", _at_most(_MAX_CONCURRENCY)
    )
    drain_timeout: float = _setting(
        "ARBPROV_DRAIN_TIMEOUT", 25.0, "how long a stop may take", _check_positive
    )
    start_timeout: float = _setting(
        "ARBPROV_START_TIMEOUT", 30.0, "how long to wait for the hub at the start", _check_positive
    )
    poll_timeout: float = _setting(
        "ARBPROV_POLL_TIMEOUT", 60.0, "how long the hub may hold a poll", _check_positive
    )
    submit_timeout: float = _setting(
        "ARBPROV_SUBMIT_TIMEOUT",
        30.0,
        "how long one attempt to send a result may take",
        _check_positive,
    )
    max_message_size: int = _setting(
        "ARBPROV_MAX_MESSAGE_SIZE",
        64 * MEBIBYTE,
        "bytes of the largest task that is accepted",
        _at_most(_MAX_MESSAGE_SIZE),
    )
    forbid_extra: bool = _setting(
        "ARBPROV_FORBID_EXTRA", False, "whether an unknown field of a payload is an error"
    )
    spool: str = _setting(
        "ARBPROV_SPOOL", "", "a file that keeps tasks and results across restarts"
    )
    rate_limit_store: str = _setting(
        "ARBPROV_RATE_LIMIT_STORE", "", "where limits are counted, as redis://...", is_secret=True
    )
    rate_limit_namespace: str = _setting(
        "ARBPROV_RATE_LIMIT_NAMESPACE", "", "groups limits in the store; the name by default"
    )

    monitoring: str = _setting(
        "ARBPROV_MONITORING",
        "",
        "where /livez, /readyz, /startupz and /metrics are served, as HOST:PORT",
        _check_address,
    )

    @property
    def tzinfo(self) -> tzinfo:
        """The time zone as an object."""
        return find_timezone(self.timezone)

    def tls(self) -> Tls | None:
        """Return the TLS settings for the hub; None for plaintext.

        Raises:
            ConfigurationError: A file can't be used.
        """
        by_url = parse_hub_url(self.hub_url).tls
        if by_url is False or not (by_url or self._tls_settings()):
            return None
        from arbprov.wire.tls import load_tls

        return load_tls(
            ca=self.hub_tls_ca,
            certificate=self.hub_tls_cert,
            key=self.hub_tls_key,
            server_name=self.hub_tls_server_name,
        )

    def override(self, **arguments: Any) -> Config:
        """Return a copy with some settings changed; None keeps a setting.

        Raises:
            ConfigurationError: A value is not valid.
        """
        given = {name: value for name, value in arguments.items() if value is not None}
        checked = load_config(given, {})
        return attrs.evolve(self, **{name: getattr(checked, name) for name in given})

    def _tls_settings(self) -> list[str]:
        """Return the names of the settings, besides the URL, that turn TLS on."""
        names = [field.name for field in attrs.fields(Config)]
        return [name for name in names if name.startswith("hub_tls") and getattr(self, name)]


# By the type of a setting, which is the type of its default.
_EXPECTED: dict[type, str] = {
    str: "must be a string",
    int: "must be a whole number",
    float: "must be a number",
    bool: "must be true or false",
}
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True}
_BOOLEANS |= {"false": False, "no": False, "off": False, "0": False}


def load_config(arguments: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Config:
    """Return the settings from arguments and the environment.

    Args:
        arguments: Settings by name; None was not given.
        environ: The environment; the process's own by default.

    Raises:
        ConfigurationError: A value is not valid, or a variable's name is misspelt; the message
            names the argument or the variable.
    """
    environ = os.environ if environ is None else environ
    _check_names(environ)
    values: dict[str, Any] = {}
    for field in attrs.fields(Config):
        origin, value = _find(field, arguments, environ)
        if origin:
            values[field.name] = _parse(field, origin, value)
    config = Config(**values)
    tls_settings = config._tls_settings()
    if tls_settings and parse_hub_url(config.hub_url).tls is False:
        variable = attrs.fields_dict(Config)[tls_settings[0]].metadata["variable"]
        raise ConfigurationError(
            f"HUB_GRPC_URL (hub_url=) {config.hub_url!r} asks for plaintext, but {variable} "
            f"({tls_settings[0]}=) asks for TLS; change one of them"
        )
    return config


def _check_names(environ: Mapping[str, str]) -> None:
    """Refuse a variable whose name is nearly that of a setting, or the file of one that has none.

    Other variables with the prefix may be there for other programs: Kubernetes, for one, sets some
    for each service.

    Raises:
        ConfigurationError: There is such a variable.
    """
    # The variables that are meant, by what may follow the prefix.
    meant = {
        name: f"{_PREFIX}{name}"
        for name in (
            *("WORKERS", "HANDLER_PROCESS", "LOG_FORMAT", "LOG_LEVEL"),
            # Of the bundled hub.
            *("HUB_TOKEN", "HUB_TOKEN_FILE", "HUB_STORE", "HUB_HTTP"),
        )
    }
    for field in attrs.fields(Config):
        variable = field.metadata["variable"]
        if field.repr and f"{variable}_FILE" in environ:
            raise ConfigurationError(
                f"{variable}_FILE is not a setting, since only secrets are read from files; set "
                f"{variable}"
            )
        meant[field.name.upper()] = variable
        meant[f"{field.name.upper()}_FILE"] = f"{variable}_FILE"
    for variable in environ:
        name = variable.removeprefix(_PREFIX)
        if name == variable or variable in meant.values():
            continue
        # Slow to import, and rarely needed.
        import difflib

        if near := difflib.get_close_matches(name, meant, n=1, cutoff=0.8):
            raise ConfigurationError(f"{variable} is not a setting; did you mean {meant[near[0]]}?")


def _find(
    field: attrs.Attribute[Any], arguments: Mapping[str, Any], environ: Mapping[str, str]
) -> tuple[str, Any]:
    """Return the origin of a setting and its value; the origin is empty for the default."""
    variable = field.metadata["variable"]
    if (value := arguments.get(field.name)) is not None:
        return f"{field.name}=", value
    if variable in environ:
        return variable, environ[variable]
    if not field.repr and (path := environ.get(f"{variable}_FILE")) is not None:
        return f"{variable}_FILE", TokenFile(f"{variable}_FILE", path)
    return "", None


def _parse(field: attrs.Attribute[Any], origin: str, value: Any) -> Any:
    """Return a setting's value, converted if it is a variable's text, and checked.

    Raises:
        ConfigurationError: The value is not valid.
    """
    if isinstance(value, str) and not value.strip():
        raise ConfigurationError(f"{origin} is blank; set it, or remove it for the default")
    if not field.repr and callable(value):
        if inspect.iscoroutinefunction(value):
            raise ConfigurationError(
                f"{origin} is an async function; give it a plain one, which is called on a thread"
            )
        if isinstance(value, TokenFile):
            value()  # report a missing file at the start, although it is read again later
        return value
    kind = type(field.default)
    shown = f"{origin} {value!r}" if field.repr else origin
    try:
        converted = _convert(kind, value, is_text=origin.isupper())
    except Exception:
        raise ConfigurationError(f"{shown} {_EXPECTED[kind]}") from None
    try:
        if check := field.metadata["check"]:
            check(converted)
    except ValueError as error:
        raise ConfigurationError(f"{shown} {error}") from None
    return converted


def _convert(kind: type, value: Any, *, is_text: bool) -> Any:
    if is_text:
        return _BOOLEANS[value.strip().lower()] if kind is bool else kind(value)
    # Values are never silently converted; only an int is also a float.
    if type(value) is not kind and (type(value), kind) != (int, float):
        raise TypeError
    return kind(value)
