"""What `arbprov dev` shows of its provider: the start, a line for each task, and the log."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import attrs

from arbprov._utils import escape_line, format_count, format_user_traceback, indent_lines
from arbprov.app import ProviderApp
from arbprov.cli.actions import task_signature
from arbprov.cli.console_log import INDENT, MAX_TEXT, clock_time, console, set_up_log
from arbprov.cli.failures import describe_ignored, describe_reason, find_place
from arbprov.cli.output import format_duration
from arbprov.cli.samples import find_sample
from arbprov.cli.terminal import Terminal
from arbprov.dispatcher import Admitter, Call, Dispatcher, Runner
from arbprov.payload.ignored import IgnoredField
from arbprov.task import Status, TaskResult

__all__ = ["DevOptions", "describe_start", "show_provider"]

_MAX_ACTIONS = 12
_MAX_NAME = 24
# Lines of a failure's reason, and of the actions after a restart.
_MAX_LINES = 3


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
    set_up_log(terminal, is_quiet=options.mode == "tasks")
    dispatcher = app._live_dispatcher()
    lines = []
    if options.mode != "tasks" and not app.actions():
        text = f"Provider {app.name} has no actions; decorate a function with @app.action."
        lines = terminal.fold(text, max_lines=_MAX_LINES)
    elif options.mode == "start":
        lines = describe_start(app, dispatcher, terminal, options)
    elif options.mode == "restart":
        names = [action.name for action in app.actions()]
        text = f"Provider {app.name} has {format_count(len(names), 'action')}: {', '.join(names)}"
        lines = terminal.fold(text, max_lines=_MAX_LINES)
    if lines:
        console.info("%s", "\n".join(lines))
    fields = attrs.fields(Dispatcher)
    values = {field.name: getattr(dispatcher, field.name) for field in fields if field.init}
    app._live = _ConsoleDispatcher(**values, terminal=terminal, options=options)


def describe_start(
    app: ProviderApp, dispatcher: Dispatcher, terminal: Terminal, options: DevOptions
) -> list[str]:
    """Return the lines that introduce a provider: its actions, their limits, and a call to copy."""
    actions, limits = app.actions(), app.limits_by_action()
    name = terminal.style(escape_line(app.name), bold=True)
    lines = [f"Provider {name} has {format_count(len(actions), 'action')}:"]
    calls = []
    for action in actions[:_MAX_ACTIONS]:
        signature = task_signature(action.handler)
        signature = signature.replace(return_annotation=signature.empty)
        text = terminal.cut(f"  {action.name}{signature}")
        notes = [f"at most {limit}" for limit in limits[action.name]]
        if len(notes) == 1 and len(text) + len(notes[0]) + 2 <= terminal.width:
            lines.append(f"{text}  {terminal.style(notes[0], dim=True)}")
        else:
            folded = [line for note in notes for line in terminal.fold(note, 6)]
            lines += [text, *(terminal.style(line, dim=True) for line in folded)]
        sample = find_sample(dispatcher, dispatcher.routes[action.name], limits[action.name])
        if sample is not None:
            call = sample.format_call(action.name, options.call_options, terminal.width)
            calls.append((not sample.payload, len(call), call))
    if len(actions) > _MAX_ACTIONS:
        lines.append(f"  and {len(actions) - _MAX_ACTIONS} more")
    if calls:
        # The shortest call that shows a payload.
        *_, shortest = min(calls, key=lambda found: found[:2])
        lines.append("Call it from another terminal:")
        lines += (terminal.style(line, fg="cyan") for line in shortest)
    return lines


@attrs.define
class _ConsoleDispatcher(Dispatcher):
    """A dispatcher that shows each task when it has ended."""

    terminal: Terminal = attrs.field(kw_only=True)
    options: DevOptions = attrs.field(kw_only=True)

    async def run(self, call: Call, admitter: Admitter, runner: Runner) -> TaskResult:
        # Before the handler runs, which may change the payload.
        ignored = call.ignored_fields()
        started_at = self.clock.monotonic()
        result = await super().run(call, admitter, runner)
        lines = self._describe(call, ignored, result, self.clock.monotonic() - started_at)
        if lines:
            console.info("%s", "\n".join(lines))
        return result

    def _describe(
        self, call: Call, ignored: Sequence[IgnoredField], result: TaskResult, seconds: float
    ) -> list[str]:
        """Return the lines about a task: its place, reason, traceback and ignored fields."""
        is_failed = result.status is Status.ERROR
        place = find_place(call) if is_failed else ""
        notes = describe_ignored(ignored, lambda text: self.redact(text, call))
        if self.options.mode == "tasks":
            # `dev` itself prints the result.
            task = f"task {escape_line(result.id)} of action {escape_line(result.action)}"
            lines = [self.terminal.cut(f"{task} failed at {place}")] if place else []
            notes = self._fold([f"{task}: {note}" for note in notes], 0)
        else:
            reasons = [] if result.status is Status.SUCCESS else describe_reason(call, result)
            lines = [self._summarize(result, seconds, place), *self._fold(reasons, INDENT)]
            notes = self._fold(notes, INDENT)
        if is_failed and self.options.traceback and call.error is not None:
            text = self.redact(format_user_traceback(call.error), call)
            for line in indent_lines(text).split("\n"):
                lines += self.terminal.fold(line.strip(), len(line) - len(line.lstrip()))
        return [*lines, *(self.terminal.style(note, fg="yellow") for note in notes)]

    def _fold(self, texts: Sequence[str], indent: int) -> list[str]:
        """Return texts as lines that fit the terminal; a text keeps an indent of its own."""
        lines: list[str] = []
        for text in texts:
            own = len(text) - len(text.lstrip())
            shown = escape_line(text.lstrip(), MAX_TEXT)
            lines += self.terminal.fold(shown, indent + own, _MAX_LINES)
        return lines

    def _summarize(self, result: TaskResult, seconds: float, place: str) -> str:
        """Return a line with the time, the action, its status, its duration and its place."""
        names = max(map(len, self.routes), default=0)
        width = max(6, min(names, _MAX_NAME))
        action = self.terminal.cut(escape_line(result.action), width)
        status = result.status.value
        duration = format_duration(seconds)
        line = f"{clock_time(time.time())}  {action:{width}}  {status:7}  {duration:>8}"
        if place:
            left = self.terminal.width - len(line) - 2
            place = place if len(place) <= left else f"...{place[-left + 3 :]}"
            line += f"  {self.terminal.style(place, fg='cyan')}"
        return line.replace(f"  {status} ", f"  {self.terminal.style_status(status)} ", 1)
