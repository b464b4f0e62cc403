"""Lines that fit into a terminal, and its colors."""

from __future__ import annotations

import fcntl
import io
import pty
import struct
import termios

import pytest

from arbprov.cli.terminal import Terminal, use_color


@pytest.fixture
def pipe():
    return Terminal(io.StringIO())


@pytest.fixture
def tty(monkeypatch):
    """A real terminal."""
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    master, slave = pty.openpty()
    with open(master, "rb", closefd=True), open(slave, "w", encoding="utf-8") as stream:
        yield stream


@pytest.mark.parametrize(
    ("environ", "colored"),
    [
        ({}, True),
        ({"TERM": "dumb"}, False),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_a_terminal_has_colors_unless_the_user_wants_none(tty, monkeypatch, environ, colored):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert use_color(tty) is colored
    assert Terminal(tty).style_status("error") == ("\033[31merror\033[0m" if colored else "error")


def test_a_pipe_has_colors_if_they_are_forced(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert use_color(io.StringIO())


def test_there_may_be_no_stream(monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    assert (use_color(None), Terminal(None).width, Terminal(None).cut("a")) == (False, 80, "a")


def test_a_terminal_that_does_not_know_its_size_has_80_columns(tty):
    assert Terminal(tty).width == 80


def test_the_width_is_the_terminal_s(tty):
    fcntl.ioctl(tty.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    assert Terminal(tty).width == 120


@pytest.mark.parametrize(("columns", "width"), [("100", 100), ("3", 40), ("0", 80), ("x", 80)])
def test_columns_overrides_the_width(pipe, monkeypatch, columns, width):
    monkeypatch.setenv("COLUMNS", columns)
    assert pipe.width == width


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("1234567890", "1234567890"),
        ("12345678901", "123456789…"),
        ("天気天気天", "天気天気天"),
        ("天気天気天気", "天気天気…"),
        ("e\u0301" * 10, "e\u0301" * 10),
    ],
)
def test_a_long_text_is_cut_by_its_columns(pipe, text, cut):
    assert pipe.cut(text, 10) == cut


def test_what_the_encoding_lacks_is_escaped_before_it_is_cut():
    terminal = Terminal(io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert terminal.cut("a天b", 10) == "a\\u5929b"
    assert terminal.cut("a天bcdef", 10) == "a\\u5929..."


@pytest.mark.parametrize(
    ("text", "max_lines", "lines"),
    [
        ("", 0, ["  "]),
        ("one two", 0, ["  one two"]),
        ("a" * 30 + " " + "b" * 10, 0, ["  " + "a" * 30, "  " + "b" * 10]),
        ("a" * 80, 0, ["  " + "a" * 38, "  " + "a" * 38, "  aaaa"]),
        ("天" * 20, 0, ["  " + "天" * 19, "  天"]),
        ("a" * 100, 2, ["  " + "a" * 38, "  " + "a" * 37 + "…"]),
        ("a" * 50, 1, ["  " + "a" * 37 + "…"]),
        ("one two", 1, ["  one two"]),
    ],
)
def test_a_long_text_is_folded(pipe, monkeypatch, text, max_lines, lines):
    monkeypatch.setenv("COLUMNS", "40")
    assert pipe.fold(text, 2, max_lines) == lines
