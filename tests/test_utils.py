"""Text from outside in a log and on a terminal: printable, in a line, and not too long."""

from __future__ import annotations

import os
import sys
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbprov import _utils
from arbprov._utils import escape_line, indent_lines, open_standard_streams, quote


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("as it is, ünd 5 €", "as it is, ünd 5 €"),
        ("two\nlines\r", r"two\nlines\r"),
        ("a line\u2028of Unicode", r"a line\u2028of Unicode"),
        ("red \x1b[31m", r"red \x1b[31m"),
        ("red in one byte \x9b31m", r"red in one byte \x9b31m"),
        ("back\u202ewards", r"back\u202ewards"),
        ("half a \ud800 pair", r"half a \ud800 pair"),
        ("\0", r"\x00"),
    ],
)
def test_unprintable_characters_are_escaped(text, line):
    assert escape_line(text) == line


@given(st.text(max_size=300) | st.text(alphabet="\n\r\x1b\u2028\u202e\x85a", max_size=300))
def test_every_text_becomes_printable(text):
    assert escape_line(text).isprintable()
    assert quote(text).isprintable()


def test_a_text_that_is_too_long_is_cut():
    assert escape_line("x" * 1_000_000) == "x" * 200 + "... (1,000,000 characters)"
    assert quote("x" * 1_000_000) == repr("x" * 200 + "... (1,000,000 characters)")


def test_a_text_is_quoted_as_python_does():
    assert quote("it's \n'x'") == repr("it's \n'x'")


def test_lines_are_indented():
    assert indent_lines("Traceback\n  File\n\n\tat\x1b") == "  Traceback\n    File\n\n      at\\x1b"


def test_a_standard_stream_that_is_closed_is_opened_on_the_null_device(monkeypatch):
    opened = []

    def fstat(descriptor):
        if descriptor == 1:
            raise OSError("closed")

    system = types.SimpleNamespace(
        fstat=fstat,
        open=lambda path, flags: opened.append((path, flags)),
        devnull=os.devnull,
        O_RDWR=os.O_RDWR,
    )
    monkeypatch.setattr(_utils, "os", system)
    monkeypatch.setattr(sys, "stdin", None)
    open_standard_streams()
    with sys.stdin:
        assert sys.stdin.read() == ""
    assert opened == [(os.devnull, os.O_RDWR)]
