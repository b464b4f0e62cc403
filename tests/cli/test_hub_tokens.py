"""The hub's token: options, variables, and the file that a hub makes once."""

from __future__ import annotations

import os
import stat

import click
import pytest
from click.testing import CliRunner

from arbprov.cli.hub_tokens import (
    HubToken,
    explaining_refusal,
    hub_token_options,
    make_hub_token,
    read_hub_token,
)
from arbprov.errors import AuthenticationError, ConfigurationError, HubConnectionError


@pytest.fixture
def find(tmp_path):
    """Return a function that runs a command and returns its token, or what it printed."""
    (tmp_path / "token").write_text(" token-of-file\n")
    (tmp_path / "other").write_text("other-token")

    def find(*arguments, **environ):
        found = []

        @click.command()
        @hub_token_options
        def command(token):
            found.append(token)

        result = CliRunner().invoke(command, arguments, env=environ)
        return found[0] if found else result.output or result.exception

    find.file, find.other = str(tmp_path / "token"), str(tmp_path / "other")
    return find


def test_the_options_override_the_variables(find):
    token, file = {"ARBPROV_HUB_TOKEN": "a"}, {"ARBPROV_HUB_TOKEN_FILE": find.file}
    assert find("--token", "b", **token) == HubToken("b", "--token")
    assert find("--token", "b", **file) == HubToken("b", "--token")
    assert find("--token-file", find.other, **token).value == "other-token"
    assert find("--token-file", find.other, **file).value == "other-token"


def test_a_variable_overrides_the_variable_with_a_file(find):
    environ = {"ARBPROV_HUB_TOKEN": " a ", "ARBPROV_HUB_TOKEN_FILE": find.file}
    assert find(**environ) == HubToken("a", "ARBPROV_HUB_TOKEN")
    assert find(ARBPROV_HUB_TOKEN_FILE=find.file).value == "token-of-file"


def test_two_options_are_wrong_usage(find):
    shown = find("--token", "a", "--token-file", find.file)
    assert "--token and --token-file exclude each other" in shown


def test_a_blank_token_is_wrong_usage(find):
    assert "Invalid value for '--token'" in find("--token", " ")


@pytest.mark.parametrize("name", ["--token-file", "ARBPROV_HUB_TOKEN_FILE"])
def test_a_file_that_is_missing_is_named_with_its_setting(find, name):
    error = find(name, "gone") if name.startswith("-") else find(**{name: "gone"})
    assert isinstance(error, ConfigurationError)
    assert str(error).startswith(f"{name}: gone can't be read: ")


@pytest.mark.parametrize("token", ["sample\nsecond", "sam\x01ple"])
def test_a_token_that_no_http_client_can_send_is_an_error_that_does_not_show_it(
    find, token, tmp_path
):
    path = tmp_path / "odd"
    path.write_text(token)
    for origin, error in (
        ("--token", find("--token", token)),
        ("ARBPROV_HUB_TOKEN", find(ARBPROV_HUB_TOKEN=token)),
        (path, find("--token-file", str(path))),
        (path, find(ARBPROV_HUB_TOKEN_FILE=str(path))),
    ):
        assert isinstance(error, ConfigurationError)
        assert str(error).startswith(f"{origin}: the token has a line break or another")
        assert "sam" not in str(error)


def test_a_hub_does_not_start_with_a_token_of_two_lines(find, state_folder):
    make_hub_token(find())
    (state_folder / "hub-token").write_text("sample\nsecond\n")
    with pytest.raises(ConfigurationError, match=r"hub-token: the token has a line break"):
        make_hub_token(find())


@pytest.mark.parametrize("read", [make_hub_token, read_hub_token])
def test_a_file_without_a_token_in_the_state_folder_can_be_removed(find, state_folder, read):
    make_hub_token(find())
    (state_folder / "hub-token").write_text("")
    with pytest.raises(
        ConfigurationError,
        match=r"no token in .*/hub-token; remove this file, and the next hub makes one$",
    ):
        read(find())
    (state_folder / "hub-token").unlink()
    assert make_hub_token(find()).value


def test_the_token_of_a_provider_is_not_the_hub_s(find):
    assert find(PROVIDER_AUTH_TOKEN="a", PROVIDER_AUTH_TOKEN_FILE=find.file).value == ""


def test_a_hub_makes_a_token_once_that_only_its_user_can_read(find, state_folder):
    made = make_hub_token(find())
    path = state_folder / "hub-token"
    assert len(made.value) >= 32
    assert made.file == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in state_folder.iterdir()] == ["hub-token"]
    assert make_hub_token(find()) == read_hub_token(find()) == made


def test_a_token_that_is_given_is_not_written(find, state_folder):
    assert make_hub_token(find("--token", "a")).value == "a"
    assert not state_folder.exists()


def test_of_two_hubs_that_make_a_token_at_once_both_have_the_first(find, state_folder, monkeypatch):
    link = os.link

    def be_late(source, target):
        target.write_text("of the other hub")
        link(source, target)

    monkeypatch.setattr(os, "link", be_late)
    assert make_hub_token(find()).value == "of the other hub"


def test_a_token_that_can_not_be_written_is_bad_configuration(find, monkeypatch):
    def fail(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(ConfigurationError, match=r"can't write .*: Permission denied; set"):
        make_hub_token(find())


def test_a_refusal_says_where_the_token_is_from(find):
    with (
        pytest.raises(AuthenticationError, match=r"^no; the token is from --token$"),
        explaining_refusal(find("--token", "a")),
    ):
        raise AuthenticationError("no")


def test_without_any_token_no_hub_has_run(find, state_folder):
    assert read_hub_token(find("--token", "a")).value == "a"
    with pytest.raises(HubConnectionError, match=f"^there is no token in {state_folder}/hub-token"):
        read_hub_token(find())


def test_the_repr_does_not_show_the_token(find):
    assert "secret" not in repr(find("--token", "secret"))
