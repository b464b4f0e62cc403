"""Where a client finds the hub and its token."""

from __future__ import annotations

import pytest

from arbprov.errors import ConfigurationError
from arbprov.localhub.clients.settings import find_base_url, find_token

TOKEN, FILE, URL = "ARBPROV_HUB_TOKEN", "ARBPROV_HUB_TOKEN_FILE", "ARBPROV_HUB_HTTP"


@pytest.mark.parametrize(
    ("given", "environ", "found"),
    [
        (None, {}, "http://127.0.0.1:50080"),
        (None, {URL: "http://hub:80/"}, "http://hub:80"),
        ("localhost:8080", {URL: "http://hub:80"}, "http://localhost:8080"),
        ("https://hub.example/below", {}, "https://hub.example/below"),
        ("[::1]:8080", {}, "http://[::1]:8080"),
    ],
)
def test_an_address_is_found(given, environ, found):
    assert find_base_url(given, environ) == found


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "grpc://hub:1",
        "http://",
        "hub:x",
        "hub:99999",
        "hub:0",
        "[::1",
        "hub/?a=1",
        "hub/#a",
        "http://u:p@hub",
        "http://ä..b",
        "http://hub/\x01",
        f"http://{'a' * 64}",
    ],
)
def test_an_address_that_is_not_valid_is_an_error(url):
    with pytest.raises(
        ConfigurationError, match=r"write an address such as http://127\.0\.0\.1:50080"
    ):
        find_base_url(url)
    with pytest.raises(ConfigurationError, match=f"{URL} "):
        find_base_url(environ={URL: url})


@pytest.mark.parametrize(
    "url", ["http://user:secret@hub", "user:secret@hub:x", "http://user:secret?a@hub", "secret@hub"]
)
def test_an_error_does_not_show_a_password(url):
    with pytest.raises(ConfigurationError, match=r"^base_url= with an @ in it is not") as caught:
        find_base_url(url)
    assert "secret" not in str(caught.value)


def test_a_token_is_found(tmp_path):
    path = tmp_path / "token"
    path.write_text("of-the-file\n")
    environ = {TOKEN: "of-the-variable", FILE: str(path)}
    assert find_token("of-the-argument", environ) == "of-the-argument"
    assert find_token(environ=environ) == "of-the-variable"
    assert find_token(environ={FILE: str(path)}) == "of-the-file"


def test_a_missing_token_is_an_error():
    with pytest.raises(ConfigurationError, match=f"set {TOKEN} or {FILE}"):
        find_token(environ={})


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ConfigurationError, match=rf"{FILE}: .* can't be read"):
        find_token(environ={FILE: str(tmp_path / "token")})


@pytest.mark.parametrize(("given", "environ"), [(" ", {}), (None, {TOKEN: ""})])
def test_a_blank_token_is_an_error(given, environ):
    with pytest.raises(ConfigurationError, match="is blank"):
        find_token(given, environ)


@pytest.mark.parametrize("token", ["sample\nsecond", "sam\0ple", "sam\ud800ple"])
def test_a_token_that_is_not_a_line_of_text_is_an_error_that_does_not_show_it(token, tmp_path):
    with pytest.raises(ConfigurationError, match="token=: the token has a line break") as caught:
        find_token(token)
    assert "sam" not in str(caught.value)


def test_a_file_with_two_tokens_is_named(tmp_path):
    path = tmp_path / "token"
    path.write_text("sample\nsecond\n")
    with pytest.raises(ConfigurationError, match=f"{FILE}: the token has a line break"):
        find_token(environ={FILE: str(path)})
