"""Texts of others, as a log's line or a terminal can show them."""

from __future__ import annotations

__all__ = ["indented", "one_line", "quoted"]

# Longer ones say no more, and a task's id may have any length.
_MOST = 200
_MOST_IN_BLOCK = 1_000


def one_line(text: str, most: int = _MOST) -> str:
    """Return `text` in one line: what is not printable is escaped, and what is too long is cut.

    Args:
        text: Whatever somebody else wrote.
        most: How many of its characters are kept.
    """
    shown = _cut(text, most)
    return shown if shown.isprintable() else "".join(map(_printable, shown))


def quoted(text: str) -> str:
    """Return a name or an id in quotes, in one line as `one_line` makes it."""
    return repr(_cut(text, _MOST))


def indented(text: str) -> str:
    """Return several lines, each printable and set in, so that none looks like a line of a log."""
    # Only these are lines: others end where a terminal would go on.
    lines = text.replace("\t", "    ").split("\n")
    return "\n".join(f"  {one_line(line, _MOST_IN_BLOCK)}" if line else line for line in lines)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()
