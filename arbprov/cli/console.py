"""What `arbprov dev` shows of its provider: the start, a line for each task, and the log."""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
import shlex
import sys
import sysconfig
import time

import attrs

import arbprov
from arbprov._utils import (
    describe_handler,
    escape_line,
    format_user_traceback,
    indent_lines,
    unwrap_function,
)
from arbprov.app import ProviderApp
from arbprov.cli.actions import task_signature
from arbprov.cli.output import find_problems, format_seconds, summarize
from arbprov.cli.samples import Sample, find_sample
from arbprov.cli.terminal import Terminal
from arbprov.dispatcher import Admitter, Call, Dispatcher, Runner
from arbprov.errors import ActionNotFoundError, InvalidPayloadError
from arbprov.logs import BatchingHandler, TaskLog, log_failure
from arbprov.task import Status, TaskResult

__all__ = ["DevOptions", "show_provider"]

# Not part of the loggers' tree: an author's own handlers get none of its lines.
_console = logging.Logger("arbprov dev")

# The columns of a line before its text: a time and two spaces.
_INDENT = 10
_MAX_ACTIONS = 12
_MAX_PROBLEMS = 10
_MAX_NAME = 24
_MAX_TEXT = 2_000
# Lines of the reason of a task's failure.
_MAX_LINES = 3
_FRAME = re.compile(r'^[\s|]*File "([^"]+)", line (\d+)', re.MULTILINE)
# Files that are not the author's, by a part of their paths.
_FOREIGN = ("<", f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_FOREIGN_FOLDERS = (os.path.dirname(arbprov.__file__), sysconfig.get_path("stdlib"))


@attrs.frozen
class DevOptions:
    """How `arbprov dev` wants its provider to be shown.

    Args:
        mode: ``"start"``, ``"restart"``, or ``"tasks"`` if `dev` itself prints the results.
        call_options: The options that `arbprov call` needs for the hub.
        traceback: Whether a failure's whole traceback is shown.
    """

    mode: str
    call_options: str = ""
    traceback: bool = False


def show_provider(app: ProviderApp, options: DevOptions) -> None:
    """Show an app's actions and, when it runs, each task and the log, on stderr."""
    terminal = Terminal(sys.stderr)
    _set_up_log(terminal, is_quiet=options.mode == "tasks")
    dispatcher = app._live_dispatcher()
    if options.mode != "tasks":
        lines = describe_start(app, dispatcher, terminal, options)
        _console.info("%s", "\n".join(lines))
    fields = attrs.fields(Dispatcher)
    values = {field.name: getattr(dispatcher, field.name) for field in fields if field.init}
    app._live = _ConsoleDispatcher(**values, terminal=terminal, options=options)


# The start.


def describe_start(
    app: ProviderApp, dispatcher: Dispatcher, terminal: Terminal, options: DevOptions
) -> list[str]:
    """Return the lines that introduce a provider: its actions, their limits, and a call to copy."""
    actions, limits = app.actions(), app.limits_by_action()
    count = f"{len(actions)} action{'' if len(actions) == 1 else 's'}"
    name = terminal.style(escape_line(app.name), bold=True)
    if options.mode == "restart":
        names = ", ".join(action.name for action in actions)
        return terminal.fold(f"Provider {app.name} has {count}: {names}", max_lines=_MAX_LINES)
    lines = [f"Provider {name} has {count}:"]
    for action in actions[:_MAX_ACTIONS]:
        signature = task_signature(action.handler)
        signature = signature.replace(return_annotation=signature.empty)
        text = terminal.cut(f"  {action.name}{signature}")
        own = [f"at most {limit}" for limit in limits[action.name]]
        if len(own) == 1 and len(text) + len(own[0]) + 2 <= terminal.width:
            lines.append(f"{text}  {terminal.style(own[0], dim=True)}")
            continue
        lines.append(text)
        lines += (terminal.style(line, dim=True) for one in own for line in terminal.fold(one, 6))
    if len(actions) > _MAX_ACTIONS:
        lines.append(f"  and {len(actions) - _MAX_ACTIONS} more")
    calls = []
    for action in actions[:_MAX_ACTIONS]:
        sample = find_sample(dispatcher, dispatcher.routes[action.name], limits[action.name])
        if sample is not None:
            call = _write_call(action.name, sample, options.call_options, terminal.width)
            calls.append((not sample[0], len(call), call))
    if calls:
        # The shortest call that shows a payload.
        shortest = min(calls, key=lambda found: found[:2])[2]
        lines.append("Call it from another terminal:")
        lines += (terminal.style(line, fg="cyan") for line in shortest)
    return lines


def _write_call(action: str, sample: Sample, options: str, width: int) -> list[str]:
    """Return a shell command as lines of at most `width` columns, where that can be done."""
    for indent in (None, 2):
        payload, account = (
            shlex.quote(json.dumps(part, ensure_ascii=False, indent=indent)) if part else ""
            for part in sample
        )
        parts = [f"arbprov call {shlex.quote(action)}", payload]
        parts += [f"--account {account}" if account else "", options]
        line = "  " + " ".join(filter(None, parts))
        if len(line) <= width:
            return [line]
        lines = ("  " + " \\\n    ".join(filter(None, parts))).split("\n")
        if max(map(len, lines)) <= width:
            return lines
    return lines


# Tasks.


@attrs.define
class _ConsoleDispatcher(Dispatcher):
    """A dispatcher that shows each task when it has ended."""

    terminal: Terminal = attrs.field(kw_only=True)
    options: DevOptions = attrs.field(kw_only=True)

    async def run(self, call: Call, admitter: Admitter, runner: Runner) -> TaskResult:
        started_at = self.clock.monotonic()
        result = await super().run(call, admitter, runner)
        lines = self._describe(call, result, self.clock.monotonic() - started_at)
        if lines:
            _console.info("%s", "\n".join(lines))
        return result

    def _describe(self, call: Call, result: TaskResult, seconds: float) -> list[str]:
        is_failed = result.status is Status.ERROR
        where = _find_place(call) if is_failed else ""
        if self.options.mode == "tasks":
            # `dev` itself prints the result.
            line = f"task {escape_line(result.id)} of action {escape_line(result.action)} "
            line += f"failed at {where}"
            lines = [self.terminal.cut(line)] if where else []
        else:
            lines = [self._describe_line(result, seconds, where)]
            lines += self._describe_reason(call, result)
        if is_failed and self.options.traceback and call.error is not None:
            text = self.redact(format_user_traceback(call.error), call)
            for line in indent_lines(text).split("\n"):
                lines += self.terminal.fold(line.strip(), len(line) - len(line.lstrip()))
        return lines

    def _describe_line(self, result: TaskResult, seconds: float, where: str) -> str:
        names = max(map(len, self.routes), default=0)
        width = max(6, min(names, _MAX_NAME))
        action = self.terminal.cut(escape_line(result.action), width)
        status = result.status.value
        line = f"{_clock_time(time.time())}  {action:{width}}  {status:7}  {_duration(seconds):>8}"
        if where:
            left = self.terminal.width - len(line) - 2
            place = where if len(where) <= left else f"...{where[-left + 3 :]}"
            line += f"  {self.terminal.style(place, fg='cyan')}"
        return line.replace(f"  {status} ", f"  {self.terminal.style_status(status)} ", 1)

    def _describe_reason(self, call: Call, result: TaskResult) -> list[str]:
        if result.status is Status.SUCCESS:
            return []
        problems = find_problems(result.data)
        if len(problems) > 1:
            lines = [f"{len(problems)} problems:", *(f"  {one}" for one in problems)]
            if len(problems) > _MAX_PROBLEMS:
                lines[_MAX_PROBLEMS + 1 :] = [f"  and {len(problems) - _MAX_PROBLEMS} more"]
        else:
            lines = [summarize(result.status.value, result.message, result.data)]
            kind = result.data.get("type") if isinstance(result.data, dict) else None
            # Some messages begin with the error's type already, such as that of a KeyError.
            is_named = isinstance(kind, str) and result.message.startswith(kind)
            if isinstance(kind, str) and call.error is not None and not is_named:
                lines[0] = f"{kind}: {lines[0]}"
            if isinstance(call.error, ActionNotFoundError):
                lines[0] += _suggest(call.error)
        return [
            folded
            for line in lines
            for folded in self.terminal.fold(
                escape_line(line.lstrip(), _MAX_TEXT),
                _INDENT + len(line) - len(line.lstrip()),
                _MAX_LINES,
            )
        ]


def _suggest(error: ActionNotFoundError) -> str:
    close = difflib.get_close_matches(error.action, error.available_actions, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there is {', '.join(map(repr, error.available_actions)) or 'none'}"


def _find_place(call: Call) -> str:
    """Return the file and line of the author's code where a call failed, if it was run."""
    error, action = call.error, call.route.action
    if action is None or isinstance(error, InvalidPayloadError):
        return ""
    text = "" if error is None else format_user_traceback(error)
    frames = [f"{_short(path)}:{line}" for path, line in _FRAME.findall(text) if _is_own(path)]
    if frames:
        return frames[-1]
    # A timeout, or a result that the author's code made an error.
    code = getattr(unwrap_function(action.handler), "__code__", None)
    if code is None:
        return describe_handler(action.handler)
    return f"{_short(code.co_filename)}:{code.co_firstlineno}"


def _is_own(path: str) -> bool:
    foreign = any(part in path for part in _FOREIGN)
    return not foreign and not path.startswith(tuple(f + os.sep for f in _FOREIGN_FOLDERS))


def _short(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else format_seconds(seconds)


def _clock_time(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


# The log.


class _ConsoleFormatter(logging.Formatter):
    """Formats the log for a terminal: the time, the logger, and the message folded to the width."""

    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def format(self, record: logging.LogRecord) -> str:
        if record.name == _console.name:
            return record.getMessage()
        first, *others = super().format(record).split("\n")
        if record.name != "arbprov":
            # The logger of a handler's context is named after its action.
            first = f"{record.name.removeprefix('arbprov.')}: {first}"
        if record.levelno >= logging.WARNING:
            first = f"{record.levelname} {first}"
        lines = self._terminal.fold(escape_line(first, _MAX_TEXT), _INDENT)
        for line in others:
            shown = escape_line(line.replace("\t", "    "), _MAX_TEXT)
            indent = min(len(shown) - len(shown.lstrip()), 20)
            lines += self._terminal.fold(shown.strip(), _INDENT + indent)
        lines[0] = _clock_time(record.created) + lines[0][_INDENT - 2 :]
        if record.levelno >= logging.ERROR:
            lines[0] = self._terminal.style(lines[0], fg="red")
        elif record.levelno >= logging.WARNING:
            lines[0] = self._terminal.style(lines[0], fg="yellow")
        elif record.name == "arbprov":
            lines[0] = self._terminal.style(lines[0], dim=True)
        return "\n".join(lines)


def _set_up_log(terminal: Terminal, *, is_quiet: bool) -> None:
    """Send arbprov's log and the author's to stderr; an author's own handlers stay as they are."""
    handler = BatchingHandler()
    handler.setFormatter(_ConsoleFormatter(terminal))
    _console.handlers[:] = [handler]
    # On the logger, so that an author's own handlers don't show a task for a second time.
    logging.getLogger("arbprov").addFilter(_is_not_shown_as_task)
    root = logging.getLogger()
    if root.handlers:
        return
    if is_quiet:
        handler.addFilter(_is_for_quiet)
    root.addHandler(handler)
    if root.level == logging.WARNING:  # Python's default
        root.setLevel(logging.INFO)


def _is_not_shown_as_task(record: logging.LogRecord) -> bool:
    return record.funcName not in {TaskLog.log_result.__name__, log_failure.__name__}


def _is_for_quiet(record: logging.LogRecord) -> bool:
    return record.name != "arbprov" or record.levelno >= logging.WARNING
