"""What a form has done, as the next page says it; the address has a word and a number for it."""

from __future__ import annotations

from arbprov._utils import format_count

__all__ = ["describe_done"]

_TASKS = {"retried": "wait again", "cancelled": "are cancelled"}
_TEXTS = {
    "run": "The task is submitted.",
    "paused": "Paused. Tasks that run already finish.",
    "resumed": "Resumed.",
}


def describe_done(word: str) -> str:
    """Return the sentence for a word; empty for an unknown word.

    >>> describe_done("retried.1"), describe_done("retried.12"), describe_done("<script>")
    ('1 task waits again.', '12 tasks wait again.', '')
    """
    name, _, number = word.partition(".")
    if name in _TASKS and number.isascii() and number.isdecimal() and len(number) < 10:
        text = f"{format_count(int(number), 'task')} {_TASKS[name]}."
        if int(number) == 1:
            text = text.replace(" wait ", " waits ").replace(" are ", " is ")
        return text
    return _TEXTS.get(word, "")
