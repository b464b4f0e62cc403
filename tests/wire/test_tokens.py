"""The token: its sources, and earlier tokens that redaction still knows."""

from __future__ import annotations

import pytest

from arbprov import ConfigurationError
from arbprov.wire.tokens import Token, TokenFile


def test_a_text_is_the_token():
    token = Token("one")
    assert (token.read(), token.current) == ("one", "one")


def test_a_function_is_asked_at_each_reading():
    texts = iter(["one", "two"])
    token = Token(lambda: next(texts))
    assert [token.read(), token.read(), token.current] == ["one", "two", "two"]


def test_a_file_is_read_at_each_reading(tmp_path):
    path = tmp_path / "token"
    path.write_text("one\n")
    token = Token(TokenFile("PROVIDER_AUTH_TOKEN_FILE", str(path)))
    token.read()
    path.write_text(" two \n")
    assert token.read() == "two"


def test_former_tokens_are_known():
    texts = iter(["one", "two", "two", "one"])
    token = Token(lambda: next(texts))
    for _ in range(4):
        token.read()
    assert list(token) == ["two", "one"]


def test_nothing_is_known_before_the_first_reading():
    assert list(Token("one")) == []


def test_a_hundred_tokens_are_known():
    numbers = iter(range(1000))
    token = Token(lambda: f"token-{next(numbers)}")
    for _ in range(200):
        token.read()
    assert list(token) == [f"token-{number}" for number in range(100, 200)]


def test_the_white_space_around_a_function_s_token_is_removed():
    assert Token(lambda: "one\n").read() == "one"


@pytest.mark.parametrize("returned", [None, 5, b"one", "", " \n"], ids=repr)
def test_a_function_that_returns_no_token_is_named(returned):
    def ask_the_vault():
        return returned

    message = rf"^auth_token=.*ask_the_vault must return a string .*{type(returned).__name__}$"
    with pytest.raises(ConfigurationError, match=message):
        Token(ask_the_vault).read()


def test_a_function_s_error_is_named_without_its_text():
    def ask_the_vault():
        raise LookupError("hunter22")

    with pytest.raises(ConfigurationError) as caught:
        Token(ask_the_vault).read()
    assert str(caught.value).endswith(
        "ask_the_vault raised LookupError instead of returning a token"
    )
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_function_without_a_name_is_named_by_its_type():
    class Vault:
        def __call__(self):
            return None

    with pytest.raises(ConfigurationError, match=r"^auth_token=Vault must return"):
        Token(Vault()).read()


def test_a_token_that_can_not_be_read_leaves_the_last_one():
    texts = iter(["one", ""])
    token = Token(lambda: next(texts))
    token.read()
    with pytest.raises(ConfigurationError):
        token.read()
    assert token.current == "one"


def test_a_token_is_in_no_repr():
    token = Token("hunter22")
    token.read()
    assert "hunter22" not in repr(token)


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"^PROVIDER_AUTH_TOKEN_FILE: .* can't be read: "):
        Token(TokenFile("PROVIDER_AUTH_TOKEN_FILE", str(tmp_path / "gone"))).read()
