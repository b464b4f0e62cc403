"""Small helpers that several folders need: text for logs, numbers, time zones, exit codes."""

from __future__ import annotations

import enum
import functools
import inspect
import math
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from arbprov._types import Handler

if TYPE_CHECKING:
    from datetime import tzinfo
    from types import FrameType, TracebackType

__all__ = [
    "MEBIBYTE",
    "SOON",
    "TextEnum",
    "class_mro",
    "class_name",
    "describe_exit",
    "describe_handler",
    "errors_in_group",
    "escape_line",
    "find_timezone",
    "format_count",
    "format_hook_traceback",
    "format_number",
    "format_user_stack",
    "format_user_traceback",
    "indent_lines",
    "is_positive_integer",
    "is_positive_number",
    "open_standard_streams",
    "quote",
    "read_number",
    "read_seconds",
    "simplify_error",
    "suggest_name",
    "text_of",
    "unwrap_function",
    "unwrap_steps",
]

MEBIBYTE = 1024 * 1024
# Seconds until a retry, for an API that asks for 0 seconds.
SOON = 1.0
# The most seconds that an API can ask for: a year, which a store can still hold.
_MAX_SECONDS = 366 * 86_400.0

# Characters of a line: a task's id may have any length, and a long id helps no reader.
_MAX_LINE = 200
_MAX_BLOCK_LINE = 1_000
# Characters at the start and at the end of a traceback; the rest is left out.
_MAX_TRACEBACK = 48 * 1024, 16 * 1024
# Errors that a traceback shows: causes, contexts and members of groups.
_MAX_RELATED = 1_000
# Characters of a name that is compared with others.
_MAX_NAME = 100
_PACKAGE = os.path.dirname(__file__) + os.sep
# The module that calls the author's functions.
_DISPATCHER = f"{_PACKAGE}dispatcher.py"
# Its function that calls hooks of the worker's life, and packages that may be between the two.
_HOOK_CALL = "call_life_hook"
_HOOK_CALLERS = {"asyncio", "contextlib", "uvloop"}


def escape_line(text: str, max_length: int = _MAX_LINE) -> str:
    r"""Return `text` as a printable line.

    Args:
        text: Text from outside: a hub, an API, a user.
        max_length: Characters to keep; a longer text ends with its length.

    >>> escape_line("first\nsecond")
    'first\\nsecond'
    """
    shown = _truncate(text, max_length)
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def suggest_name(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name; it is empty if no known name is near.

    >>> suggest_name("prize", ["order", "price"])
    "; did you mean 'price'?"
    """
    if len(name) > _MAX_NAME:
        return ""
    # Imported here, to keep `import arbprov` quick.
    import difflib

    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""


def quote(text: str) -> str:
    r"""Return a name or an id in quotes, as a printable line.

    >>> quote("it's\n")
    '"it\'s\\n"'
    """
    return repr(_truncate(text, _MAX_LINE))


def indent_lines(text: str) -> str:
    r"""Return several lines, each printable and indented, so that none looks like a log line.

    >>> print(indent_lines("Traceback:\n\tline\r1"))
      Traceback:
          line\r1
    """
    # Split at \n only: `escape_line` escapes all other line separators.
    lines = text.replace("\t", "    ").split("\n")
    return "\n".join(f"  {escape_line(line, _MAX_BLOCK_LINE)}" if line else line for line in lines)


def _truncate(text: str, max_length: int) -> str:
    if len(text) <= max_length:
        return text
    return f"{text[:max_length]}... ({len(text):,} characters)"


def text_of(value: object) -> str:
    """Return ``str(value)`` as a plain `str`; an empty text if that raises anything.

    >>> class Mute(Exception):
    ...     def __str__(self):
    ...         raise SystemExit
    >>> text_of(ValueError("sold out")), text_of(Mute())
    ('sold out', '')
    """
    try:
        # A subclass of str may have methods that raise, or come from a module of another process.
        return str.__str__(str(value))
    except BaseException:
        return ""


def class_name(error: BaseException) -> str:
    """Return the name of an error's class, whatever its metaclass does.

    >>> class_name(KeyError("city"))
    'KeyError'
    """
    return text_of(type.__dict__["__name__"].__get__(type(error)))


def class_mro(error: BaseException) -> tuple[type, ...]:
    """Return an error's class and its bases, whatever its metaclass does.

    >>> class_mro(KeyError("city"))[:2]
    (<class 'KeyError'>, <class 'LookupError'>)
    """
    mro: tuple[type, ...] = type.__dict__["__mro__"].__get__(type(error))
    return mro


def errors_in_group(error: BaseException) -> list[BaseException]:
    """Return the errors and groups in an exception group; nothing for any other error."""
    # By name: on Python 3.10, the class comes from a package.
    if not any(
        type.__dict__["__name__"].__get__(c) == "BaseExceptionGroup" for c in class_mro(error)
    ):
        return []
    try:
        return list(error.exceptions)  # type: ignore[attr-defined]
    except BaseException:  # a subclass may have spoilt them
        return []


def simplify_error(name: str, text: str) -> BaseException:
    """Return an error with no code of an author's: of a class of this name, with this text.

    >>> simplify_error("PlugError", "the plug is loose")
    PlugError('the plug is loose')
    """
    error: BaseException = type(name, (RuntimeError,), {})(text)
    return error


def format_user_traceback(error: BaseException) -> str:
    """Return an error's traceback from the author's code on, without arbprov's frames before it.

    It raises nothing, whatever the error's class does, and is cut in the middle if it is long.
    """
    try:
        text = _format_traceback(error)
    except BaseException:
        text = f"{class_name(error)}: {text_of(error)}"
    start, end = _MAX_TRACEBACK
    if len(text) <= start + end:
        return text
    before, _, cut = text[:start].rpartition("\n")
    # Half a secret at the end of a short line would not be redacted; a long line is cut anyway.
    first = before if len(cut) < _MAX_BLOCK_LINE else text[:start]
    _, _, last = text[-end:].partition("\n")
    return f"{first}\n... ({len(text) - start - end:,} characters are left out) ...\n{last}"


def _format_traceback(error: BaseException) -> str:
    import traceback

    part = error.__traceback__
    while part is not None and _leads_to_user_code(part.tb_frame):
        part = part.tb_next
    if _count_related(error) <= _MAX_RELATED:
        return "".join(traceback.format_exception(type(error), error, part)).rstrip()
    frames = "".join(traceback.format_tb(part))
    return (
        f"Traceback (most recent call last):\n{frames}{class_name(error)}: {text_of(error)}\n"
        f"(more than {_MAX_RELATED:,} errors that belong to it are left out)"
    )


def _count_related(error: BaseException) -> int:
    """Return the number of errors in a traceback, or a number above `_MAX_RELATED`."""
    count, waiting, seen = 0, [error], {id(error)}
    while waiting and count <= _MAX_RELATED:
        one = waiting.pop()
        count += 1
        for cause in (one.__cause__, one.__context__):
            if cause is not None and id(cause) not in seen:
                seen.add(id(cause))
                waiting.append(cause)
        # A traceback shows them again each time, even those of the same group.
        waiting += errors_in_group(one)[: _MAX_RELATED + 1]
    return count


def _leads_to_user_code(frame: FrameType) -> bool:
    is_import = str(frame.f_globals.get("__name__")).startswith("importlib")
    return is_import or frame.f_code.co_filename.startswith(_PACKAGE)


def format_hook_traceback(error: BaseException) -> str:
    """Return the traceback of an error of a hook of the worker's life, from the hook on.

    The errors that it came from are shown likewise: a shutdown hook may fail since a startup hook
    has failed before. For any other error, such as one of arbprov itself, the text is empty.
    """
    if _find_hook_frames(error) is None:
        return ""
    one: BaseException | None = error
    seen: set[int] = set()
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        one.__traceback__ = _find_hook_frames(one) or one.__traceback__
        one = one.__cause__ or one.__context__
    return format_user_traceback(error)


def _find_hook_frames(error: BaseException) -> TracebackType | None:
    """Return the part of a traceback that begins in code of the author's, called as a hook."""
    part = error.__traceback__
    while part is not None and not _is_hook_call(part.tb_frame):
        part = part.tb_next
    while part is not None and _leads_to_hook(part.tb_frame):
        part = part.tb_next
    return part


def _is_hook_call(frame: FrameType) -> bool:
    code = frame.f_code
    return (code.co_filename, code.co_name) == (_DISPATCHER, _HOOK_CALL)


def _leads_to_hook(frame: FrameType) -> bool:
    package = str(frame.f_globals.get("__name__")).partition(".")[0]
    return package in _HOOK_CALLERS or _leads_to_user_code(frame)


def format_user_stack(frame: FrameType | None) -> str:
    """Return a thread's stack from the author's code on, without arbprov's frames before it."""
    import traceback

    stack = traceback.extract_stack(frame)
    own = [number for number, entry in enumerate(stack) if entry.filename == _DISPATCHER]
    return "".join(traceback.format_list(stack[own[-1] + 1 if own else 0 :])).rstrip()


def is_positive_number(value: Any) -> bool:
    """Tell whether `value` is a number above 0 that a double can hold; bool is not a number.

    >>> is_positive_number(0.5), is_positive_number(0), is_positive_number(True)
    (True, False, False)
    """
    return type(value) in (int, float) and 0 < value <= sys.float_info.max


class TextEnum(str, enum.Enum):
    """An enum whose members equal their texts, and are printed as these.

    >>> class Color(TextEnum):
    ...     RED = "red"
    >>> Color.RED == "red", f"{Color.RED}", str(Color.RED)
    (True, 'red', 'red')
    """

    def __str__(self) -> str:
        # Without it, an f-string has the text in Python 3.10, and "Color.RED" in later ones.
        return str.__str__(self)


def is_positive_integer(value: Any) -> bool:
    """Tell whether `value` is an integer above 0; bool is not an integer."""
    return type(value) is int and value > 0


def read_number(value: Any) -> float | None:
    """Return a finite number, or the number that a text such as an API's header is; else None.

    >>> read_number("0.93"), read_number(30), read_number("soon"), read_number(True)
    (0.93, 30.0, None, None)
    """
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def read_seconds(value: Any) -> float | None:
    """Return the seconds that an API asks for, as a number or its text; else None.

    An API that rounds down, or whose clock differs, asks for 0 seconds or less: that is `SOON`,
    since a retry at once would be refused again. It is a year at most.

    >>> read_seconds("30"), read_seconds(0.5), read_seconds(0), read_seconds("later")
    (30.0, 0.5, 1.0, None)
    """
    seconds = read_number(value)
    if seconds is None:
        return None
    return min(seconds, _MAX_SECONDS) if seconds > 0 else SOON


def format_count(count: int, noun: str) -> str:
    """Return a count with its noun, which is in the plural unless the count is 1.

    >>> format_count(1, "result"), format_count(2, "result")
    ('1 result', '2 results')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_number(number: float) -> str:
    """Return a number in full, without the ``.0`` of a whole number.

    >>> format_number(5.0), format_number(0.25)
    ('5', '0.25')
    """
    return str(int(number) if number == int(number) else number)


def find_timezone(name: str) -> tzinfo:
    """Return a time zone by its name.

    >>> find_timezone("UTC")
    datetime.timezone.utc

    Raises:
        ValueError: This machine has no time zone of that name.
    """
    from datetime import timezone

    # UTC needs no time zone database, which slim machines lack.
    if name == "UTC":
        return timezone.utc
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except Exception:
        raise ValueError(
            "is not a time zone that this machine knows, such as Europe/Madrid "
            '(a machine without a time zone database needs: pip install "tzdata")'
        ) from None


def describe_exit(exit_code: int | None) -> str:
    """Describe a process's exit code; None means that it only closed its connection.

    >>> describe_exit(3), describe_exit(-15)
    ('ended with exit code 3', 'was killed by SIGTERM')
    """
    if exit_code is None:
        return "has closed its connection"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    if exit_code == -signal.SIGKILL:
        return "was killed by SIGKILL, as the system does when memory runs out"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:  # a real-time signal
        name = f"signal {-exit_code}"
    return f"was killed by {name}"


def describe_handler(handler: Handler) -> str:
    """Return a handler's name, file and line, for error messages."""
    function = unwrap_function(handler)
    name = getattr(function, "__qualname__", repr(function))
    code = getattr(function, "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code else name


def open_standard_streams() -> None:
    """Open stdin, stdout and stderr on the null device, if they are closed.

    Otherwise a file or a connection that is opened later would get their descriptors, and whatever
    is printed would go there.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest descriptor that is free: this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for the process's life


def unwrap_steps(handler: Handler) -> Iterator[Any]:
    """Yield a handler and each function inside it, through ``functools.wraps`` and ``partial``.

    >>> import functools
    >>> [step.__class__.__name__ for step in unwrap_steps(functools.partial(print, 1))]
    ['partial', 'builtin_function_or_method']
    """
    step: Any = handler
    seen: set[int] = set()
    while id(step) not in seen:
        seen.add(id(step))
        yield step
        inner = step.func if isinstance(step, functools.partial) else step
        step = getattr(step, "__wrapped__", inner)


def unwrap_function(handler: Handler) -> Any:
    """Return the function that a handler is, wraps, or has as its ``__call__``."""
    *_, inner = unwrap_steps(handler)
    call = inspect.getattr_static(type(inner), "__call__", None)
    return call if inspect.isfunction(call) else inner
