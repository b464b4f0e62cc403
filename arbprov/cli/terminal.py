"""Text for a terminal: its width, its colors, and lines that are not wider than it."""

from __future__ import annotations

import os
import re
import unicodedata
from typing import Any

import attrs
import click

__all__ = ["Terminal", "use_color"]

_STATUS_COLORS = {"success": "green", "warning": "yellow", "limit": "yellow", "error": "red"}
_MIN_WIDTH = 40
_PIPE_WIDTH = 80


@attrs.frozen
class Terminal:
    """What a stream can show.

    Args:
        stream: A text stream, such as ``sys.stderr``; it need not be a terminal.

    >>> import io
    >>> terminal = Terminal(io.StringIO())
    >>> terminal.width, terminal.style("text", fg="red")
    (80, 'text')
    """

    stream: Any

    @property
    def width(self) -> int:
        """The columns of a line now: 80 unless it is a terminal, or COLUMNS says otherwise."""
        columns = os.environ.get("COLUMNS", "")
        if columns.isdecimal() and int(columns):
            return max(_MIN_WIDTH, int(columns))
        try:
            # A terminal that does not know its size says 0.
            return max(_MIN_WIDTH, os.get_terminal_size(self.stream.fileno()).columns or 80)
        except (OSError, ValueError, AttributeError):
            return _PIPE_WIDTH

    @property
    def encoding(self) -> str:
        """The encoding of the stream."""
        return getattr(self.stream, "encoding", None) or "utf-8"

    def style(self, text: str, **styles: Any) -> str:
        """Return text with colors, if the stream gets colors; see `click.style`."""
        return click.style(text, **styles) if use_color(self.stream) else text

    def style_status(self, status: str) -> str:
        """Return a task's status in its color."""
        return self.style(status, fg=_STATUS_COLORS.get(status))

    def cut(self, text: str, width: int | None = None) -> str:
        """Return text that is at most `width` columns wide; a longer text ends with an ellipsis.

        >>> import io
        >>> Terminal(io.StringIO()).cut("Zürich, Łódź", 8)
        'Zürich,…'
        """
        width = self.width if width is None else width
        text = self._encodable(text)
        if _text_width(text) <= width:
            return text
        end = "…" if self._encodable("…") == "…" else "..."
        return _prefix(text, width - len(end)) + end

    def fold(self, text: str, indent: int = 0, max_lines: int = 0) -> list[str]:
        """Return a line of text as lines that fit, each indented; `max_lines` cuts the last one.

        >>> import io
        >>> terminal = Terminal(io.StringIO())
        >>> [len(line) for line in terminal.fold("word " * 20, indent=2)]
        [76, 26]
        """
        width = self.width - indent
        lines: list[str] = []
        line = ""
        words = re.findall(r"\s*\S+", self._encodable(text))
        while words:
            if not line and len(lines) + 1 == max_lines:
                line = self.cut("".join(words).lstrip(), width)
                break
            word = words.pop(0) if line else words.pop(0).lstrip()
            if _text_width(line + word) <= width:
                line += word
                continue
            if not line:
                # The word alone is wider than a line.
                line = _prefix(word, width)
                word = word[len(line) :]
            words.insert(0, word)
            lines.append(line)
            line = ""
        return [" " * indent + line for line in [*lines, line]]

    def _encodable(self, text: str) -> str:
        return text.encode(self.encoding, "backslashreplace").decode(self.encoding)


def use_color(stream: Any) -> bool:
    """Tell whether a stream gets colors: NO_COLOR and FORCE_COLOR decide, or else a terminal does.

    >>> import io
    >>> use_color(io.StringIO())
    False
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def _text_width(text: str) -> int:
    if text.isascii():
        return len(text)
    visible = [c for c in text if unicodedata.category(c) not in {"Mn", "Me", "Cf"}]
    return len(visible) + sum(unicodedata.east_asian_width(c) in {"W", "F"} for c in visible)


def _prefix(text: str, width: int) -> str:
    """Return as much of a text as `width` columns hold, but at least a character."""
    end = 1
    while end < len(text) and _text_width(text[: end + 1]) <= width:
        end += 1
    return text[:end]
