"""Tasks at the hub as people see them: a line each, or a task in full."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from arbprov._utils import escape_line, format_count
from arbprov.cli.output import echo, find_problems, format_seconds
from arbprov.cli.terminal import Terminal

if TYPE_CHECKING:
    from arbprov.localhub.api.shapes import AttemptView, TaskView

__all__ = ["format_age", "print_head", "print_task", "print_task_line"]

_STATE_COLORS = {
    "running": "cyan",
    "done": "green",
    "failed": "red",
    "dead": "red",
    "cancelled": "yellow",
}
# Columns of the parts of a line; the message has the rest.
_ID, _STATE, _ACTION, _AGE = 26, 9, 14, 4
# Columns of a field's name.
_NAME = 11
# Characters of a value, and of its lines.
_MAX_TEXT = 20_000
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def format_age(seconds: float) -> str:
    """Return a duration in its largest unit.

    >>> format_age(59), format_age(7_300), format_age(0.2)
    ('59s', '2h', '0s')
    """
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return "0s"


def print_head() -> None:
    """Print the names of the columns."""
    head = f"{'ID':{_ID}}  {'STATE':{_STATE}}  {'ACTION':{_ACTION}}  {'AGE':>{_AGE}}  MESSAGE"
    echo(Terminal(sys.stdout).cut(head))


def print_task_line(task: TaskView) -> None:
    """Print a task as a line that fits the terminal."""
    terminal = Terminal(sys.stdout)
    state = task.state.value
    action = terminal.cut(escape_line(task.action), _ACTION)
    age = format_age(time.time() - task.created_at.timestamp())
    text = escape_line(task.reason or ("" if task.status == "success" else task.message))
    line = (
        f"{escape_line(task.id):{_ID}}  {state:{_STATE}}  {action:{_ACTION}}  {age:>{_AGE}}  {text}"
    )
    styled = terminal.style(state, fg=_STATE_COLORS.get(state))
    echo(terminal.cut(line.rstrip()).replace(f"  {state} ", f"  {styled} ", 1))


def print_task(task: TaskView, wait_reason: str) -> None:
    """Print all about a task.

    Args:
        task: The task, with its attempts.
        wait_reason: Why it waits; empty if it does not.
    """
    terminal = Terminal(sys.stdout)
    state = task.state.value
    fields = [
        ("task", task.id),
        ("state", state),
        ("why", wait_reason or task.reason),
        ("action", task.action),
        ("provider", _describe_provider(task)),
        ("priority", str(task.priority) if task.priority else ""),
        ("submitted", _format_time(task.created_at)),
        ("not before", _format_time(task.not_before)),
        ("expires", _format_time(task.expires_at)),
        ("ended", _format_time(task.ended_at)),
        ("attempts", _describe_attempts(task)),
        ("lease ends", _format_time(task.lease_ends_at)),
        ("payload", _format_json(task.payload, task.payload_text)),
        ("account", _format_json(task.account, None) if task.account else ""),
        ("account key", task.account_key),
        ("key", task.idempotency_key),
        ("status", task.status),
        ("message", task.message),
    ]
    for name, value in fields:
        if value:
            color = _STATE_COLORS.get(state) if name == "state" else None
            _print_field(terminal, name, value, color)
    response = _find_response(task)
    for problem in find_problems(response):
        _print_field(terminal, "problem", problem)
    if response is not None:
        _print_field(terminal, "result", _format_json(response, None))
    elif task.result_text:
        _print_field(terminal, "result", task.result_text)
    for attempt in task.history or ():
        _print_field(terminal, f"attempt {attempt.number}", _describe_attempt(attempt))


def _print_field(terminal: Terminal, name: str, value: str, color: str | None = None) -> None:
    """Print a field: its name, and its value beside it, in as many lines as it needs."""
    indent = _NAME + 2
    if len(value) > _MAX_TEXT:
        left = len(value) - _MAX_TEXT
        value = f"{value[:_MAX_TEXT]}\n... {format_count(left, 'more character')}; see --json"
    lines: list[str] = []
    for part in value.split("\n"):
        text = escape_line(part.lstrip(" "), _MAX_TEXT)
        lines += terminal.fold(text, indent + len(part) - len(part.lstrip(" ")))
    first = terminal.style(lines[0][indent:], fg=color)
    lines[0] = f"{name:{_NAME}}  {first}"
    for line in lines:
        echo(line)


def _describe_provider(task: TaskView) -> str:
    wanted = task.provider or "any"
    return f"{wanted}, and {task.worker} ran it last" if task.worker else wanted


def _describe_attempts(task: TaskView) -> str:
    if not task.attempts:
        return "none so far"
    return f"{task.attempts} ({task.deliveries} of {task.max_deliveries} deliveries used)"


def _describe_attempt(attempt: AttemptView) -> str:
    """Return an attempt's start, duration, provider and end."""
    duration = ""
    if attempt.ended_at is not None:
        duration = format_seconds((attempt.ended_at - attempt.started_at).total_seconds())
    ends = {
        "": "runs",
        "result": attempt.status,
        "limit": "held back by a limit",
        "lease": "lease ran out",
        "returned": "never reached the provider",
    }
    end = ends.get(attempt.end, attempt.end)
    if attempt.aside:
        end += f", and {format_count(len(attempt.aside), 'more result')} kept aside"
    parts = [_format_time(attempt.started_at), duration, escape_line(attempt.provider), end]
    return "  ".join(filter(None, parts))


def _find_response(task: TaskView) -> Any:
    """Return what the handler returned, or the details of an error; None without a result."""
    envelope = task.result
    data = envelope.get("data") if isinstance(envelope, dict) else None
    return data.get("response") if isinstance(data, dict) else envelope


def _format_time(when: dt.datetime | None) -> str:
    """Return a time in the user's time zone; empty without a time."""
    return "" if when is None else when.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _format_json(value: Any, text: str | None) -> str:
    """Return JSON as a line if it is short, else indented; text that is not JSON as it is."""
    if text is not None:
        return text
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= 60 else json.dumps(value, ensure_ascii=False, indent=2)
