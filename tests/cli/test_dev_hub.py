"""The hub of `arbprov dev`: its history, its page, and how a browser gets in."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from arbprov.cli import dev_hub, hub_http
from arbprov.cli.dev_hub import (
    _choose_page_address,
    call_options,
    page_command,
    running_dev_hub,
    sign_in_path,
)
from arbprov.cli.hub_tokens import HubToken, make_hub_token
from arbprov.errors import ConfigurationError
from arbprov.localhub import LocalHub


@pytest.fixture
def taken():
    """The address of a port where another program listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def free():
    """The address of a port where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"127.0.0.1:{port}"


# The history.


@pytest.mark.parametrize("target", ["weather.py", "weather", "weather:app", "weather.py:app"])
def test_the_tasks_are_there_in_the_next_run(target, folder, state_folder):
    with running_dev_hub("weather") as hub:
        hub.put("forecast", id="t1")
    with running_dev_hub(target) as hub:
        assert hub.cancel("t1", reason="seen") == ["t1"]
    assert Path(hub.store.partition(":")[2]).parent == state_folder / "dev"


@pytest.mark.parametrize("target", ["other/weather.py", "other.weather", "weather.app"])
def test_another_module_has_a_history_of_its_own(target, folder):
    with running_dev_hub("weather.py") as hub, running_dev_hub(target) as other:
        assert hub.store != other.store != "memory"


def test_a_history_is_for_its_user_only(folder, state_folder):
    with running_dev_hub("weather.py"):
        modes = [path.stat().st_mode for path in (state_folder, *state_folder.rglob("*"))]
    assert {oct(mode & 0o077) for mode in modes} == {"0o0"}


def test_a_history_in_use_is_left_alone_and_a_line_says_so(folder, capsys):
    with running_dev_hub("weather.py") as first, running_dev_hub("weather.py") as second:
        assert second.store == "memory"
        path = first.store.partition(":")[2]
    shown = f"This run keeps no history: the store at {path} is in use by another hub"
    assert capsys.readouterr().err.startswith(shown)


def test_without_a_folder_for_it_there_is_no_history(folder, state_folder, capsys):
    state_folder.parent.mkdir(parents=True)
    state_folder.touch()
    with running_dev_hub("weather.py") as hub:
        assert hub.store == "memory"
    assert "keeps no history: can't make the folder" in capsys.readouterr().err


def test_a_hub_without_a_history_leaves_nothing_behind(folder, state_folder):
    with running_dev_hub(None) as hub:
        assert hub.store == "memory"
    assert not state_folder.exists()


def test_a_port_that_is_taken_is_an_error_with_or_without_a_history(folder, taken, capsys):
    for target in ("weather.py", None):
        with (
            pytest.raises(ConfigurationError, match=f"the hub can't listen on {taken}"),
            running_dev_hub(target, address=taken),
        ):
            pass
    assert capsys.readouterr().err == ""


# The page.


def test_the_page_is_at_its_usual_port(free, monkeypatch):
    monkeypatch.setattr(hub_http, "HTTP_ADDRESS", free)
    assert _choose_page_address() == free


def test_the_page_is_at_any_port_if_its_usual_port_is_taken(taken, monkeypatch):
    monkeypatch.setattr(hub_http, "HTTP_ADDRESS", taken)
    assert _choose_page_address() == "127.0.0.1:0"


def test_the_page_is_at_any_port_if_its_usual_port_is_taken_meanwhile(
    taken, folder, monkeypatch, capsys
):
    monkeypatch.setattr(hub_http, "HTTP_ADDRESS", taken)
    monkeypatch.setattr(dev_hub, "_is_free", lambda _: True)
    with running_dev_hub("weather.py", has_page=True) as hub:
        assert hub.http_address not in (taken, None)
        assert hub.store != "memory"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("has_free_port", [True, False])
def test_a_page_does_not_hide_that_the_hub_can_not_listen(
    taken, free, folder, monkeypatch, has_free_port
):
    monkeypatch.setattr(hub_http, "HTTP_ADDRESS", free if has_free_port else taken)
    with (
        pytest.raises(ConfigurationError, match=f"the hub can't listen on {taken}"),
        running_dev_hub("weather.py", address=taken, has_page=True),
    ):
        pass


def test_without_the_extra_there_is_no_page(monkeypatch):
    monkeypatch.setattr(hub_http, "has_http_extra", lambda: False)
    assert _choose_page_address() is None


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


@pytest.mark.usefixtures("terminal")
def test_a_terminal_shows_a_link_that_signs_in():
    token = make_hub_token(HubToken())
    token.file.write_text("a+b/c&d")
    assert sign_in_path(LocalHub(token="a+b/c&d"), token) == "/sign-in#token=a%2Bb%2Fc%26d"


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    "token", [HubToken("mine", "--token"), HubToken("mine", "file", Path("/a/token"))]
)
def test_no_link_has_a_token_that_the_user_has_given(token):
    assert sign_in_path(LocalHub(token="mine"), token) == "/"


def test_no_log_gets_a_token():
    assert sign_in_path(LocalHub(), make_hub_token(HubToken())) == "/"


# Commands to copy.


@pytest.mark.parametrize(
    ("token", "options"),
    [
        (HubToken("token-of-mine", "--token"), '--token "$ARBPROV_HUB_TOKEN"'),
        (HubToken("token-of-mine", "file", Path("/a b/token")), "--token-file '/a b/token'"),
    ],
)
def test_the_call_to_copy_names_a_token_and_never_shows_it(token, options):
    hub = LocalHub("127.0.0.1:50099", token="token-of-mine")
    assert call_options(hub, token) == f"--hub-url grpc://127.0.0.1:50099 {options}"


@pytest.mark.parametrize(
    ("program", "found", "command"),
    [
        (".venv/bin/arbprov", None, ".venv/bin/arbprov dev 'a b.py'"),
        (".venv/bin/arbprov", "/usr/bin/arbprov", "arbprov dev 'a b.py'"),
        ("/site-packages/arbprov/__main__.py", None, "arbprov dev 'a b.py'"),
    ],
)
def test_the_command_that_shows_a_history_is_found(program, found, command, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program])
    monkeypatch.setattr(dev_hub.shutil, "which", lambda _: found)
    assert page_command("a b.py") == command
