"""The settings: their sources, and the errors for values that are not valid."""

from __future__ import annotations

import re

import attrs
import pytest

from arbprov import ConfigurationError, ProviderApp
from arbprov.config import Config, load_config

SETTINGS = {
    "name": ("PROVIDER_NAME", "weather", "weather", "provider"),
    "auth_token": ("PROVIDER_AUTH_TOKEN", "sample-token", "sample-token", ""),
    "hub_url": ("HUB_GRPC_URL", "hub:1", "hub:1", "hub-grpc:50051"),
    "hub_tls": ("HUB_GRPC_TLS", "true", True, False),
    "hub_tls_ca": ("HUB_GRPC_TLS_CA", "ca.pem", "ca.pem", ""),
    "hub_tls_cert": ("HUB_GRPC_TLS_CERT", "cert.pem", "cert.pem", ""),
    "hub_tls_key": ("HUB_GRPC_TLS_KEY", "key.pem", "key.pem", ""),
    "hub_tls_server_name": ("HUB_GRPC_TLS_SERVER_NAME", "hub", "hub", ""),
    "execution_timeout": ("TASK_EXECUTION_TIMEOUT", "2.5", 2.5, 1.0),
    "timezone": ("PROVIDER_TIMEZONE", "Europe/Madrid", "Europe/Madrid", "UTC"),
    "concurrency": ("ARBPROV_CONCURRENCY", "7", 7, 32),
    "drain_timeout": ("ARBPROV_DRAIN_TIMEOUT", "2.5", 2.5, 25.0),
    "start_timeout": ("ARBPROV_START_TIMEOUT", "2.5", 2.5, 30.0),
    "poll_timeout": ("ARBPROV_POLL_TIMEOUT", "2.5", 2.5, 60.0),
    "submit_timeout": ("ARBPROV_SUBMIT_TIMEOUT", "2.5", 2.5, 30.0),
    "max_message_size": ("ARBPROV_MAX_MESSAGE_SIZE", "7", 7, 67108864),
    "forbid_extra": ("ARBPROV_FORBID_EXTRA", "true", True, False),
    "spool": ("ARBPROV_SPOOL", "/var/spool.db", "/var/spool.db", ""),
    "rate_limit_store": ("ARBPROV_RATE_LIMIT_STORE", "redis://x", "redis://x", ""),
    "rate_limit_namespace": ("ARBPROV_RATE_LIMIT_NAMESPACE", "sample", "sample", ""),
    "monitoring": ("ARBPROV_MONITORING", "127.0.0.1:9100", "127.0.0.1:9100", ""),
}
SECRETS = {"auth_token", "rate_limit_store"}
ROWS = [(name, *row) for name, row in SETTINGS.items()]
NUMBERS = [(name, row[0]) for name, row in SETTINGS.items() if type(row[3]) in {int, float}]
TEXTS = [(name, row[0]) for name, row in SETTINGS.items() if isinstance(row[3], str)]
every_setting = pytest.mark.parametrize(
    ("name", "variable", "text", "value", "default"), ROWS, ids=SETTINGS
)
every_number = pytest.mark.parametrize(("name", "variable"), NUMBERS, ids=[n for n, _ in NUMBERS])
every_text = pytest.mark.parametrize(("name", "variable"), TEXTS, ids=[n for n, _ in TEXTS])


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for variable, *_ in SETTINGS.values():
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(f"{variable}_FILE", raising=False)


def complaint(arguments=None, environ=None):
    with pytest.raises(ConfigurationError) as caught:
        load_config(arguments or {}, environ or {})
    return str(caught.value)


# Where a setting comes from.


def test_these_are_all_settings():
    assert [field.name for field in attrs.fields(Config)] == list(SETTINGS)


@every_setting
def test_a_setting_has_a_default(name, variable, text, value, default):
    assert getattr(load_config({}, {}), name) == default


@every_setting
def test_a_variable_overrides_the_default(name, variable, text, value, default):
    assert getattr(load_config({}, {variable: text}), name) == value


@every_setting
def test_an_argument_overrides_the_variable(name, variable, text, value, default):
    another = {"hub_url": "hub:2", "hub_tls": "false"}.get(name, "1")
    config = load_config({name: value}, {variable: another})
    assert getattr(config, name) == value


@every_setting
def test_an_argument_of_none_counts_as_not_given(name, variable, text, value, default):
    assert getattr(load_config({name: None}, {variable: text}), name) == value


@every_setting
def test_an_argument_hides_an_invalid_variable(name, variable, text, value, default):
    assert getattr(load_config({name: value}, {variable: ""}), name) == value


@every_setting
def test_the_app_takes_the_argument(name, variable, text, value, default):
    assert getattr(ProviderApp(**{name: value}).config, name) == value


@every_setting
def test_the_app_reads_the_environment(monkeypatch, name, variable, text, value, default):
    monkeypatch.setenv(variable, text)
    assert getattr(ProviderApp().config, name) == value


def test_the_app_reads_the_environment_when_it_is_made(monkeypatch):
    app = ProviderApp()
    monkeypatch.setenv("PROVIDER_NAME", "late")
    assert app.name == "provider"


@every_setting
def test_a_setting_has_the_type_of_its_default(name, variable, text, value, default):
    config = load_config({}, {variable: text})
    assert type(getattr(config, name)) is type(default)


def test_a_whole_number_is_a_fine_timeout():
    assert load_config({"execution_timeout": 3}, {}).execution_timeout == 3


def test_the_settings_can_t_be_changed_in_place():
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        load_config({}, {}).name = "another"


# Secrets in files.


@pytest.fixture
def secret_file(tmp_path):
    path = tmp_path / "token"
    path.write_text("sample-token\n")
    return path


def test_a_secret_may_be_in_a_file(secret_file):
    config = load_config({}, {"PROVIDER_AUTH_TOKEN_FILE": str(secret_file)})
    assert config.auth_token() == "sample-token"


def test_the_file_of_a_secret_is_read_again_each_time(secret_file):
    config = load_config({}, {"PROVIDER_AUTH_TOKEN_FILE": str(secret_file)})
    secret_file.write_text("rotated")
    assert config.auth_token() == "rotated"


def test_a_secret_may_come_from_a_function():
    assert load_config({"auth_token": lambda: "sample-token"}, {}).auth_token() == "sample-token"


def test_a_function_is_not_called_before_it_is_needed():
    load_config({"auth_token": lambda: 1 // 0}, {})


def test_a_secret_from_an_async_function_is_refused():
    async def token():
        return "sample-token"

    assert complaint({"auth_token": token}) == (
        "auth_token= is an async function; give it a plain one, which is called on a thread"
    )


def test_only_a_secret_may_come_from_a_function():
    assert complaint({"name": lambda: "weather"}).endswith(" must be a string")


def test_the_variable_overrides_the_file(secret_file):
    environ = {"PROVIDER_AUTH_TOKEN": "direct", "PROVIDER_AUTH_TOKEN_FILE": str(secret_file)}
    assert load_config({}, environ).auth_token == "direct"


def test_the_argument_overrides_the_file(secret_file):
    environ = {"PROVIDER_AUTH_TOKEN_FILE": str(secret_file)}
    assert load_config({"auth_token": "direct"}, environ).auth_token == "direct"


@pytest.mark.parametrize("name", [n for n in SETTINGS if n not in SECRETS])
def test_only_a_secret_is_read_from_a_file(secret_file, name):
    variable = SETTINGS[name][0]
    assert complaint(environ={f"{variable}_FILE": str(secret_file)}) == (
        f"{variable}_FILE is not a setting, since only secrets are read from files; set {variable}"
    )


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "nothing"
    message = complaint(environ={"PROVIDER_AUTH_TOKEN_FILE": str(path)})
    assert message.startswith(f"PROVIDER_AUTH_TOKEN_FILE: {path} can't be read: ")


def test_a_file_that_is_a_directory_is_named(tmp_path):
    message = complaint(environ={"PROVIDER_AUTH_TOKEN_FILE": str(tmp_path)})
    assert message.startswith(f"PROVIDER_AUTH_TOKEN_FILE: {tmp_path} can't be read: ")


def test_a_file_that_is_not_text_is_named(secret_file):
    secret_file.write_bytes(b"\xff")
    message = complaint(environ={"PROVIDER_AUTH_TOKEN_FILE": str(secret_file)})
    assert message.startswith(f"PROVIDER_AUTH_TOKEN_FILE: {secret_file} can't be read: ")


@pytest.mark.parametrize("content", ["", "\n", "  \n\t"], ids=repr)
def test_a_blank_file_is_an_error_that_names_the_variable(secret_file, content):
    secret_file.write_text(content)
    message = complaint(environ={"PROVIDER_AUTH_TOKEN_FILE": str(secret_file)})
    assert message == f"PROVIDER_AUTH_TOKEN_FILE: there is no token in {secret_file}"


@pytest.mark.parametrize("path", ["", " "], ids=repr)
def test_a_blank_path_is_an_error_that_names_the_variable(path):
    assert "PROVIDER_AUTH_TOKEN_FILE" in complaint(environ={"PROVIDER_AUTH_TOKEN_FILE": path})


# Values that are not valid.


@pytest.mark.parametrize("blank", ["", " ", "\t\n"], ids=repr)
@every_setting
def test_a_blank_variable_is_named(name, variable, text, value, default, blank):
    message = complaint(environ={variable: blank})
    assert message == f"{variable} is blank; set it, or remove it for the default"


@pytest.mark.parametrize("blank", ["", " "], ids=repr)
@every_text
def test_a_blank_argument_is_named(name, variable, blank):
    message = complaint({name: blank})
    assert message == f"{name}= is blank; set it, or remove it for the default"


@pytest.mark.parametrize("text", ["soon", "1s", "1,5", "0x10", "--1"])
@every_number
def test_a_variable_that_is_not_a_number_is_named(name, variable, text):
    message = complaint(environ={variable: text})
    assert re.fullmatch(rf"{variable} {text!r} must be a (whole )?number", message)


@pytest.mark.parametrize("text", ["0", "-1", "-0"])
@every_number
def test_a_variable_that_is_not_above_0_is_named(name, variable, text):
    assert complaint(environ={variable: text}) == f"{variable} {text!r} must be greater than 0"


@pytest.mark.parametrize("text", ["nan", "NaN", "inf", "-inf", "Infinity", "1e400"])
@every_number
def test_a_variable_that_is_not_finite_is_named(name, variable, text):
    message = complaint(environ={variable: text})
    expected = r"greater than 0|a (finite|whole) number"
    assert re.fullmatch(rf"{variable} {re.escape(repr(text))} must be ({expected})", message)


@pytest.mark.parametrize("value", ["2", True, [2], float("nan"), float("inf")], ids=repr)
@every_number
def test_an_argument_that_is_not_a_number_is_named(name, variable, value):
    message = complaint({name: value})
    assert re.fullmatch(rf"{name}= {re.escape(repr(value))} must be a (\w+ )?number", message)


@pytest.mark.parametrize("value", [0, -1])
@every_number
def test_an_argument_that_is_not_above_0_is_named(name, variable, value):
    assert complaint({name: value}) == f"{name}= {value} must be greater than 0"


@pytest.mark.parametrize("value", [5, True, b"text", ["text"]], ids=repr)
@every_text
def test_an_argument_that_is_not_a_string_is_named(name, variable, value):
    assert complaint({name: value}).startswith(f"{name}=")


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("ARBPROV_CONCURENCY", "ARBPROV_CONCURRENCY"),
        ("ARBPROV_DRAIN_TIME_OUT", "ARBPROV_DRAIN_TIMEOUT"),
        ("ARBPROV_RATE_LIMITS_STORE_FILE", "ARBPROV_RATE_LIMIT_STORE_FILE"),
        ("ARBPROV_WORKER", "ARBPROV_WORKERS"),
        ("ARBPROV_LOG_FROMAT", "ARBPROV_LOG_FORMAT"),
        ("ARBPROV_LOGLEVEL", "ARBPROV_LOG_LEVEL"),
        ("ARBPROV_LOG_FORMAT_FILE", "ARBPROV_LOG_FORMAT"),
        ("ARBPROV_EXECUTION_TIMEOUT", "TASK_EXECUTION_TIMEOUT"),
        ("ARBPROV_HUB_URL", "HUB_GRPC_URL"),
        ("ARBPROV_HUB_STOER", "ARBPROV_HUB_STORE"),
        ("ARBPROV_AUTH_TOKEN_FILE", "PROVIDER_AUTH_TOKEN_FILE"),
    ],
)
def test_a_variable_whose_name_is_misspelt_is_refused(variable, meant):
    message = complaint(environ={variable: "4"})
    assert message == f"{variable} is not a setting; did you mean {meant}?"


@pytest.mark.parametrize(
    "variable",
    [
        "ARBPROV_WORKERS",
        "ARBPROV_HANDLER_PROCESS",
        "ARBPROV_RATE_LIMIT_STORE_FILE",
        # As Kubernetes sets them for a service named arbprov-hub.
        "ARBPROV_HUB_SERVICE_HOST",
        "ARBPROV_HUB_PORT_50051_TCP_ADDR",
        "ARBPROV_HUB_PORT",
        # Those of the bundled hub.
        "ARBPROV_HUB_TOKEN",
        "ARBPROV_HUB_TOKEN_FILE",
        "ARBPROV_HUB_STORE",
        "ARBPROV_HUB_HTTP",
        "CONCURENCY",
    ],
)
def test_other_variables_may_be_there(tmp_path, variable):
    (tmp_path / "secret").write_text("redis://localhost")
    load_config({}, {variable: str(tmp_path / "secret")})


@pytest.mark.parametrize("text", ["1.5", "1e3"])
def test_a_fraction_of_a_task_at_once_is_refused(text):
    message = complaint(environ={"ARBPROV_CONCURRENCY": text})
    assert message == f"ARBPROV_CONCURRENCY {text!r} must be a whole number"


def test_more_than_a_million_tasks_at_once_are_refused():
    message = complaint(environ={"ARBPROV_CONCURRENCY": "1000001"})
    assert message == "ARBPROV_CONCURRENCY '1000001' must be at most 1000000"


def test_a_fraction_as_an_argument_is_refused():
    assert complaint({"concurrency": 1.5}) == "concurrency= 1.5 must be a whole number"


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../UTC", "/etc/localtime", "Europe", "x" * 500])
@pytest.mark.parametrize("origin", ["timezone=", "PROVIDER_TIMEZONE"])
def test_an_unknown_time_zone_is_named(zone, origin):
    if origin == "timezone=":
        message = complaint({"timezone": zone})
    else:
        message = complaint(environ={origin: zone})
    assert message.startswith(f"{origin} {zone!r} is not a time zone that this machine knows")


def test_the_error_of_an_unknown_time_zone_says_how_to_install_one():
    assert 'pip install "tzdata"' in complaint({"timezone": "Mars/Olympus"})


def test_utc_needs_no_database(monkeypatch):
    monkeypatch.setattr("zoneinfo.ZoneInfo", None)
    assert load_config({"timezone": "UTC"}, {}).tzinfo.utcoffset(None).total_seconds() == 0


@pytest.mark.parametrize("value", [5, b"sample-token", ["sample-token"]], ids=repr)
def test_a_token_of_the_wrong_type_is_not_shown(value):
    assert complaint({"auth_token": value}) == "auth_token= must be a string"


@pytest.mark.parametrize("text", ["true", "True", "YES", " on ", "1"])
def test_these_are_true(text):
    assert load_config({}, {"HUB_GRPC_TLS": text}).hub_tls is True


@pytest.mark.parametrize("text", ["false", "No", "off", "0"])
def test_these_are_false(text):
    assert load_config({}, {"HUB_GRPC_TLS": text}).hub_tls is False


def test_a_text_that_is_neither_true_nor_false_is_named():
    message = complaint(environ={"HUB_GRPC_TLS": "maybe"})
    assert message == "HUB_GRPC_TLS 'maybe' must be true or false"


@pytest.mark.parametrize("value", [1, "true"])
def test_an_argument_that_is_neither_true_nor_false_is_named(value):
    assert complaint({"hub_tls": value}) == f"hub_tls= {value!r} must be true or false"


def test_a_message_size_that_grpc_can_not_count_is_refused():
    message = complaint(environ={"ARBPROV_MAX_MESSAGE_SIZE": "2147483648"})
    assert message == "ARBPROV_MAX_MESSAGE_SIZE '2147483648' must be at most 2147483647"


# The hub's URL, and TLS.


@pytest.mark.parametrize("origin", ["hub_url=", "HUB_GRPC_URL"])
def test_a_url_with_an_unknown_scheme_is_named(origin):
    given = {origin.strip("="): "http://hub:1"}
    message = complaint(given) if origin == "hub_url=" else complaint(environ=given)
    assert message == (
        f"{origin} 'http://hub:1' has the unknown scheme http://; "
        "write host:port, grpc://host:port, grpcs://host:port for TLS, or unix:path"
    )


@pytest.mark.parametrize("url", ["hub:1", "grpc://hub:1", "unix:/hub.sock"])
def test_a_hub_is_asked_in_plaintext_by_default(url):
    assert load_config({"hub_url": url}, {}).tls() is None


@pytest.mark.parametrize(
    "arguments",
    [{"hub_url": "grpcs://hub:1"}, {"hub_tls": True}, {"hub_tls_server_name": "hub"}],
    ids=repr,
)
def test_tls_is_asked_for_by_the_url_or_a_setting(arguments):
    assert load_config(arguments, {}).tls() is not None


@pytest.mark.parametrize("url", ["grpc://hub:1", "unix:/hub.sock"])
@pytest.mark.parametrize("name", [name for name in SETTINGS if name.startswith("hub_tls")])
def test_a_url_without_tls_and_a_setting_with_it_are_refused_together(url, name):
    variable, _, value, _ = SETTINGS[name]
    assert complaint({"hub_url": url, name: value}) == (
        f"HUB_GRPC_URL (hub_url=) {url!r} asks for plaintext, but {variable} "
        f"({name}=) asks for TLS; change one of them"
    )


def test_a_plaintext_url_of_one_run_overrides_the_settings():
    config = load_config({"hub_tls_server_name": "hub"}, {})
    assert config.override(hub_url="grpc://127.0.0.1:1").tls() is None


def test_a_url_of_one_run_without_a_scheme_leaves_tls_on():
    config = load_config({"hub_tls_server_name": "hub"}, {})
    assert config.override(hub_url="hub:2").tls() is not None


# The repr.


def test_the_repr_leaves_the_token_out():
    assert "token" not in repr(load_config({"auth_token": "sample-token"}, {}))


def test_the_repr_shows_the_rest():
    shown = repr(load_config({}, {}))
    assert {name for name in SETTINGS if f"{name}=" not in shown} == SECRETS


# Changing settings for one run.


def test_a_changed_setting_is_checked():
    with pytest.raises(ConfigurationError, match="hub_url= is blank"):
        load_config({}, {}).override(hub_url="")


def test_changing_keeps_the_rest():
    config = load_config({"name": "weather", "concurrency": 7}, {})
    assert config.override(hub_url="hub:1") == attrs.evolve(config, hub_url="hub:1")


def test_changing_to_none_changes_nothing():
    config = load_config({"hub_url": "hub:1"}, {})
    assert config.override(hub_url=None, auth_token=None) == config


def test_changing_does_not_read_the_environment(monkeypatch):
    config = load_config({}, {})
    monkeypatch.setenv("PROVIDER_NAME", "")
    assert config.override(hub_url="hub:1").name == "provider"


@pytest.mark.parametrize(
    "address", ["9100", ":9100", "here:", "here:port", "here:65536", "here:-1"]
)
def test_an_address_that_is_not_a_host_and_a_port_is_refused(address):
    assert complaint({"monitoring": address}) == (
        f"monitoring= {address!r} must be HOST:PORT, such as 127.0.0.1:9100"
    )
