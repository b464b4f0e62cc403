"""Descriptions of parameters and fields, as docstrings have them."""

from __future__ import annotations

import inspect
import re
from typing import Any

__all__ = ["read_descriptions", "read_summary"]

# A section of Google's style ("Args:"), or of NumPy's, which is underlined.
_SECTION = re.compile(r"(Args|Arguments|Parameters|Attributes|Fields):?$")
_GOOGLE_ITEM = re.compile(r"(?P<name>\*{0,2}\w+)(?: \([^)]*\))?: (?P<text>.*)")
_NUMPY_ITEM = re.compile(r"(?P<name>\*{0,2}\w+)(?: ?: .*)?$")
_SPHINX_ITEM = re.compile(r":(?:param|ivar)(?: [^:]*?)? ?(?P<name>\w+): (?P<text>.*)")


def read_summary(documented: Any) -> str:
    """Return the first paragraph of a docstring as one line; a generated one is nothing."""
    text = documented.__doc__ if isinstance(documented, type) else inspect.getdoc(documented)
    if not text or (isinstance(documented, type) and text.startswith(f"{documented.__name__}(")):
        return ""
    return " ".join(inspect.cleandoc(text).partition("\n\n")[0].split())


def read_descriptions(documented: Any) -> dict[str, str]:
    """Return the descriptions of parameters or fields; in the style of Google, NumPy or Sphinx.

    >>> def forecast(city, days):
    ...     '''Forecast.
    ...
    ...     Args:
    ...         city: The city's name,
    ...             in English.
    ...         days: How many days.
    ...     '''
    >>> read_descriptions(forecast)
    {'city': "The city's name, in English.", 'days': 'How many days.'}
    """
    lines = (inspect.getdoc(documented) or "").splitlines()
    items: dict[str, list[str]] = {}
    section: int | None = None  # the indent of the section's heading
    item, current, is_numpy = 0, "", False
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        text, indent = line.strip(), len(line) - len(line.lstrip())
        is_underlined = set(following.strip()) == {"-"}
        if not text or set(text) == {"-"}:
            continue
        if match := _SPHINX_ITEM.match(text):
            section = None
        elif is_underlined or _SECTION.match(text):
            section = indent if _SECTION.match(text) else None
            current, is_numpy = "", is_underlined
            continue
        elif current and indent > item:
            items[current].append(text)
            continue
        elif section is not None and (indent == section if is_numpy else indent > section):
            match = (_NUMPY_ITEM if is_numpy else _GOOGLE_ITEM).match(text)
        if match is None:
            section, current = None, ""
            continue
        current, item = match["name"].lstrip("*"), indent
        items[current] = [match.groupdict().get("text", "")]
    return {name: " ".join(" ".join(parts).split()) for name, parts in items.items()}
